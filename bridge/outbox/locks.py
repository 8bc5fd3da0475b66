"""Named locks of a transaction. It holds them until it ends."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from sqlalchemy import Connection, text

from bridge.outbox.statement import Statement

#: How many locks the names of `lock_all` share. One webhook may need thousands of names, and PostgreSQL has
#: some thousands of locks in all.
STRIPES = 256

_LOCK = Statement(
    text(
        "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(CAST(:names AS text[])) AS name"
    )
)
# Locks of two numbers are distinct from those of one.
_LOCK_ALL = Statement(
    text("SELECT pg_advisory_xact_lock(0, stripe) FROM unnest(CAST(:stripes AS int[])) AS stripe")
)


def lock(connection: Connection, *names: tuple[str, ...]) -> None:
    """Wait until no other transaction holds one of these names.

    A unit of work calls it once, before `lock_all`: the sorted order of the locks prevents deadlocks. SQLite
    needs no locks: only one transaction at a time can ``BEGIN IMMEDIATE``.
    """
    if names and connection.dialect.name == "postgresql":
        _LOCK.rows(connection, {"names": sorted(map(_encoded, names))})


def lock_all(connection: Connection, names: Iterable[tuple[str, ...]]) -> None:
    """Wait until no other transaction holds one of these names, or another name with the same lock.

    A unit of work calls it once, before it locks rows: the sorted order of the locks prevents deadlocks.
    """
    stripes = sorted({crc32(_encoded(name).encode()) % STRIPES for name in names})
    if stripes and connection.dialect.name == "postgresql":
        _LOCK_ALL.rows(connection, {"stripes": stripes})


def _encoded(name: tuple[str, ...]) -> str:
    # A length before each part keeps ("a", "b:c") and ("a:b", "c") apart.
    return "".join(f"{len(part)}:{part}" for part in name)

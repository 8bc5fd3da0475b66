"""Named locks that last until their transaction ends."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from sqlalchemy import Connection, text

#: How many locks all the names of `lock_all` share: one webhook may want thousands, and PostgreSQL has
#: room for some thousands in all.
STRIPES = 256

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
# The two numbers are a space of their own, apart from that of the one.
_LOCK_ALL = text("SELECT pg_advisory_xact_lock(0, stripe) FROM unnest(CAST(:stripes AS int[])) AS stripe")


def lock(connection: Connection, *name: str) -> None:
    """Wait until no other transaction holds this name.

    A unit of work takes these before those of `lock_all`, and a fingerprint's before a digest's: where all
    take them in one order, nobody waits in a circle.

    On SQLite there is nothing to do: a transaction that writes began with ``BEGIN IMMEDIATE``, which only
    one can at a time.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"name": _spelled(name)})


def lock_all(connection: Connection, names: Iterable[tuple[str, ...]]) -> None:
    """Wait until no other transaction holds one of these names, or one that falls on the same lock.

    A unit of work calls it once, before it locks rows: in the order of the locks nobody waits in a circle.
    """
    stripes = sorted({crc32(_spelled(name).encode()) % STRIPES for name in names})
    if stripes and connection.dialect.name == "postgresql":
        connection.execute(_LOCK_ALL, {"stripes": stripes})


def _spelled(name: tuple[str, ...]) -> str:
    # A length before each part keeps ("a", "b:c") and ("a:b", "c") apart.
    return "".join(f"{len(part)}:{part}" for part in name)

"""Named locks that last until their transaction ends."""

from __future__ import annotations

from sqlalchemy import Connection, text

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def lock(connection: Connection, *name: str) -> None:
    """Wait until no other transaction holds this name. A unit of work takes one at most.

    On SQLite there is nothing to do: a transaction that writes began with ``BEGIN IMMEDIATE``, which only
    one can at a time.
    """
    if connection.dialect.name == "postgresql":
        # A length before each part keeps ("a", "b:c") and ("a:b", "c") apart.
        connection.execute(_LOCK, {"name": "".join(f"{len(part)}:{part}" for part in name)})

"""What an event's sender sent, what people did, and which routing table made a job."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, Text, text

revision = "0004"
down_revision = "0003"

_ID = BigInteger().with_variant(Integer, "sqlite")
_HAS_DIGEST = text("digest IS NOT NULL")


def upgrade() -> None:
    op.add_column("events", Column("digest", LargeBinary))
    op.add_column("events", Column("notes", LargeBinary))
    # Older events have no digest and stand in no index: on a large store it is made at once.
    op.create_index(
        "events_by_digest",
        "events",
        ["source", "digest", "id"],
        sqlite_where=_HAS_DIGEST,
        postgresql_where=_HAS_DIGEST,
    )
    op.add_column("jobs", Column("table_hash", Text))
    op.add_column("jobs", Column("table_commit", Text))
    op.add_column("refusals", Column("client", Text))
    op.create_table(
        "audit",
        Column("id", _ID, primary_key=True),
        Column("at", Double, nullable=False),
        Column("actor", Text, nullable=False),
        Column("account", Text),
        Column("action", Text, nullable=False),
        Column("target", LargeBinary, nullable=False),
        Column("chosen", BigInteger),
        Column("done", BigInteger, nullable=False),
        Column("ended_at", Double),
        sqlite_autoincrement=True,
    )

"""Events, their jobs, and the attempts to send them."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

_ID = BigInteger().with_variant(Integer, "sqlite")
_IS_WAITING = text("state = 'waiting'")


def upgrade() -> None:
    op.create_table(
        "events",
        Column("id", _ID, primary_key=True),
        Column("source", Text, nullable=False),
        Column("event", Text, nullable=False),
        Column("action", Text),
        Column("delivery_id", Text, nullable=False),
        Column("fingerprint", Text),
        Column("headers", LargeBinary, nullable=False),
        Column("query", LargeBinary, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("received_at", Double, nullable=False),
        Column("warnings", LargeBinary, nullable=False),
        UniqueConstraint("source", "delivery_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_fingerprint", "events", ["source", "fingerprint", "received_at"])
    op.create_table(
        "jobs",
        Column("id", _ID, primary_key=True),
        Column("event_id", _ID, ForeignKey("events.id"), nullable=False),
        Column("route", Text, nullable=False),
        Column("task_id", Text, nullable=False),
        Column("task", Text, nullable=False),
        Column("item_key", Text, nullable=False),
        Column("item_index", Integer),
        Column("replay", Integer, nullable=False),
        Column("state", Text, nullable=False),
        Column("arguments", LargeBinary),
        Column("reason", Text),
        Column("made_at", Double, nullable=False),
        Column("due_at", Double, nullable=False),
        Column("fresh_at", Double, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("unknowns", Integer, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("theeye_job_id", Text),
        Column("claim", Text),
        Column("lease_until", Double),
        UniqueConstraint("event_id", "route", "item_key", "replay"),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    op.create_index(
        "jobs_due",
        "jobs",
        ["state", "due_at", "id", "task_id"],
        sqlite_where=_IS_WAITING,
        postgresql_where=_IS_WAITING,
    )
    op.create_table(
        "attempts",
        Column("id", _ID, primary_key=True),
        Column("job_id", _ID, ForeignKey("jobs.id"), nullable=False),
        Column("number", Integer, nullable=False),
        Column("started_at", Double, nullable=False),
        Column("seconds", Double),
        Column("outcome", Text),
        Column("status", Integer),
        Column("detail", Text),
        Column("theeye_job_id", Text),
        UniqueConstraint("job_id", "number"),
        sqlite_autoincrement=True,
    )

"""The tables of release 0.1.0."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
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


def upgrade() -> None:
    op.create_table(
        "events", Column("id", _ID, primary_key=True), Column("source", Text, nullable=False),
        Column("event", Text, nullable=False), Column("action", Text),
        Column("delivery_id", Text, nullable=False), Column("fingerprint", Text),
        Column("headers", LargeBinary, nullable=False), Column("query", LargeBinary, nullable=False),
        Column("body", LargeBinary, nullable=False), Column("received_at", Double, nullable=False),
        Column("warnings", LargeBinary, nullable=False), Column("digest", LargeBinary, nullable=False),
        Column("notes", LargeBinary), UniqueConstraint("source", "delivery_id"), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("events_by_fingerprint", "events", ["source", "fingerprint", "received_at"])
    op.create_index("events_by_age", "events", ["received_at", "id"])
    op.create_index("events_by_digest", "events", ["source", "digest", "id"])
    op.create_table(
        "jobs", Column("id", _ID, primary_key=True),
        Column("event_id", _ID, ForeignKey("events.id"), nullable=False),
        Column("route", Text, nullable=False), Column("task_id", Text, nullable=False),
        Column("task", Text, nullable=False), Column("item_key", Text, nullable=False),
        Column("item_index", Integer), Column("replay", Integer, nullable=False),
        Column("state", Text, nullable=False), Column("arguments", LargeBinary), Column("reason", Text),
        Column("created_at", Double, nullable=False), Column("due_at", Double, nullable=False),
        Column("retry_window_start", Double, nullable=False),
        Column("window_attempts", Integer, nullable=False),
        Column("window_unknowns", Integer, nullable=False), Column("attempt_count", Integer, nullable=False),
        Column("theeye_job_id", Text), Column("claim_token", Text), Column("lease_until", Double),
        Column("group_name", Text), Column("position", BigInteger),
        Column("latest", Boolean, nullable=False), Column("blocked", Boolean, nullable=False),
        Column("once_key", Text), Column("ended_at", Double), Column("alerted", Boolean, nullable=False),
        Column("table_hash", Text), Column("table_commit", Text),
        UniqueConstraint("event_id", "route", "item_key", "replay"), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    ready = "state = 'waiting' AND NOT blocked"
    _index("jobs_ready", ["state", "due_at", "id", "task_id", "route"], ready)
    _index("jobs_by_group", ["task_id", "group_name", "position"], "group_name IS NOT NULL")
    blocks = "group_name IS NOT NULL AND state IN ('waiting', 'sending', 'unknown')"
    _index("jobs_blocking", ["task_id", "group_name", "position"], blocks)
    holds = "once_key IS NOT NULL AND state IN ('waiting', 'sending', 'accepted', 'unknown')"
    _index("jobs_by_key", ["route", "once_key", "ended_at"], holds)
    _index("jobs_without_alert", ["state", "ended_at"], "state = 'dead' AND NOT alerted")
    op.create_table(
        "attempts", Column("id", _ID, primary_key=True),
        Column("job_id", _ID, ForeignKey("jobs.id"), nullable=False),
        Column("number", Integer, nullable=False), Column("started_at", Double, nullable=False),
        Column("seconds", Double), Column("outcome", Text), Column("status", Integer),
        Column("detail", Text), Column("theeye_job_id", Text), Column("task_id", Text, nullable=False),
        UniqueConstraint("job_id", "number"), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("attempts_by_task", "attempts", ["task_id", "started_at"])
    op.create_table(
        "refused_requests", Column("id", _ID, primary_key=True), Column("source", Text, nullable=False),
        Column("at", Double, nullable=False), Column("status", Integer, nullable=False),
        Column("reason", Text, nullable=False), Column("event", Text), Column("size", BigInteger),
        Column("client", Text), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("refused_requests_by_source", "refused_requests", ["source", "id"])
    op.create_table(
        "processes", Column("id", Text, primary_key=True), Column("heartbeat_at", Double, nullable=False),
        Column("trouble", Text),
    )  # fmt: skip
    op.create_table(
        "pauses", Column("kind", Text, primary_key=True), Column("name", Text, primary_key=True),
        Column("since", Double, nullable=False),
    )  # fmt: skip
    op.create_table(
        "dead_job_alerts", Column("route", Text, primary_key=True), Column("at", Double, nullable=False)
    )
    op.create_table(
        "audit", Column("id", _ID, primary_key=True), Column("at", Double, nullable=False),
        Column("actor", Text, nullable=False), Column("account", Text),
        Column("action", Text, nullable=False), Column("target", LargeBinary, nullable=False),
        Column("selected", BigInteger), Column("changed", BigInteger, nullable=False),
        Column("ended_at", Double), sqlite_autoincrement=True,
    )  # fmt: skip


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "jobs", columns, sqlite_where=text(where), postgresql_where=text(where))

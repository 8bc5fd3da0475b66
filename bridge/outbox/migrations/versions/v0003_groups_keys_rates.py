"""Groups, keys, rates, pauses, tellings, when a job ended, and the events by their age."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Double, Text, false, text

revision = "0003"
down_revision = "0002"

_COLUMNS = (
    Column("group_name", Text),
    Column("position", BigInteger),
    Column("latest", Boolean, nullable=False, server_default=false()),
    Column("blocked", Boolean, nullable=False, server_default=false()),
    Column("once_key", Text),
    Column("ended_at", Double),
    Column("told", Boolean, nullable=False, server_default=false()),
)


def upgrade() -> None:
    for column in _COLUMNS:
        op.add_column("jobs", column)
    op.add_column("attempts", Column("task_id", Text))
    # Only an index: the release before works on without it.
    op.drop_index("jobs_due", "jobs")
    ready = "state = 'waiting' AND NOT blocked"
    _index("jobs_ready", ["state", "due_at", "id", "task_id", "route"], ready)
    _index("jobs_by_group", ["task_id", "group_name", "position"], "group_name IS NOT NULL")
    ahead = "group_name IS NOT NULL AND state IN ('waiting', 'sending', 'unknown')"
    _index("jobs_ahead", ["task_id", "group_name", "position"], ahead)
    holds = "once_key IS NOT NULL AND state IN ('waiting', 'sending', 'accepted', 'unknown')"
    _index("jobs_by_key", ["route", "once_key", "ended_at"], holds)
    _index("jobs_untold", ["state", "ended_at"], "state = 'dead' AND NOT told")
    op.create_index("attempts_by_task", "attempts", ["task_id", "started_at"])
    op.create_index("events_by_age", "events", ["received_at", "id"])
    op.create_table(
        "pauses",
        Column("kind", Text, primary_key=True),
        Column("name", Text, primary_key=True),
        Column("since", Double, nullable=False),
    )
    op.create_table(
        "tellings",
        Column("route", Text, primary_key=True),
        Column("at", Double, nullable=False),
    )


def _index(name: str, columns: list[str], where: str) -> None:
    op.create_index(name, "jobs", columns, sqlite_where=text(where), postgresql_where=text(where))

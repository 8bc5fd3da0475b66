"""The index of waiting jobs by task."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

_READY = text("state = 'waiting' AND NOT blocked")


def upgrade() -> None:
    op.create_index(
        "jobs_ready_by_task",
        "jobs",
        ["state", "task_id", "due_at", "id"],
        sqlite_where=_READY,
        postgresql_where=_READY,
    )

"""The indexes of the page's lists, and the reason and the progress of an action."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NEEDS_PERSON = sa.text("state IN ('dead', 'unknown')")


def upgrade() -> None:
    op.add_column("audit", sa.Column("reason", sa.Text))
    op.add_column("audit", sa.Column("reached", sa.BigInteger))
    op.create_index("events_by_source", "events", ["source", "id"])
    op.create_index("jobs_by_route", "jobs", ["route", "id"])
    op.create_index("jobs_by_task", "jobs", ["task_id", "id"])
    op.create_index(
        "jobs_for_person", "jobs", ["state", "route", "id"],
        sqlite_where=_NEEDS_PERSON, postgresql_where=_NEEDS_PERSON,
    )  # fmt: skip

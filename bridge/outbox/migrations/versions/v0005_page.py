"""The indexes of the page's lists, and the reason and the progress of an action."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_IS_LISTED = sa.text("id > 0")
_NEEDS_PERSON = sa.text("state IN ('dead', 'unknown')")


def upgrade() -> None:
    op.add_column("audit", sa.Column("reason", sa.Text))
    op.add_column("audit", sa.Column("reached", sa.BigInteger))
    for name, table, columns, where in (
        ("events_by_source", "events", ["source", "id"], _IS_LISTED),
        ("jobs_by_route", "jobs", ["route", "id"], _IS_LISTED),
        ("jobs_by_task", "jobs", ["task_id", "id"], _IS_LISTED),
        ("jobs_for_person", "jobs", ["state", "route", "id"], _NEEDS_PERSON),
    ):
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)

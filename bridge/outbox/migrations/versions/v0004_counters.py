"""The counts of ``/metrics``."""

from alembic import op
from sqlalchemy import Column, Double, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "counters", Column("writer", Text, primary_key=True), Column("series", Text, primary_key=True),
        Column("value", Double, nullable=False), Column("at", Double, nullable=False),
        sqlite_with_rowid=False,
    )  # fmt: skip

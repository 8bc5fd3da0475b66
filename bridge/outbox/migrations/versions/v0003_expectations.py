"""The sources and routes with `expect_every`."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Double, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "expectations", Column("source", Text, primary_key=True), Column("route", Text, primary_key=True),
        Column("since", Double, nullable=False), Column("seen_at", Double),
        Column("alerted", Boolean, nullable=False),
    )  # fmt: skip

"""The last refused requests of each source, and the processes that deliver."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, Text

revision = "0002"
down_revision = "0001"

_ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "refusals",
        Column("id", _ID, primary_key=True),
        Column("source", Text, nullable=False),
        Column("at", Double, nullable=False),
        Column("status", Integer, nullable=False),
        Column("reason", Text, nullable=False),
        Column("event", Text),
        Column("size", BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("refusals_by_source", "refusals", ["source", "id"])
    op.create_table(
        "processes",
        Column("id", Text, primary_key=True),
        Column("beat_at", Double, nullable=False),
        Column("trouble", Text),
    )

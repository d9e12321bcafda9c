"""The entries, the row that says whether the database can be written, and how far it is pruned."""

from alembic import op
from sqlalchemy import Column, DateTime, String

from shared.persistence.migrations import create_milestones, create_write_probe

revision, down_revision = "diary_service_0001", None


def upgrade() -> None:
    op.create_table(
        "diary",
        Column("order_id", String, primary_key=True),
        Column("cause", String, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
    )
    create_write_probe()
    create_milestones()

"""The visits, the row that says whether the database can be written, and how far it is pruned."""

from alembic import op
from sqlalchemy import Column, Integer, String

from shared.persistence.migrations import create_milestones, create_write_probe

revision, down_revision = "visits_service_0001", None


def upgrade() -> None:
    op.create_table(
        "visits",
        Column("order_id", String, primary_key=True),
        Column("customer", String, nullable=False, index=True),
        Column("visit", Integer, nullable=False),
    )
    create_write_probe()
    create_milestones()

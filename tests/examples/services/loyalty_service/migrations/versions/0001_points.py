"""The points, and the row that says whether the database can be written."""

from alembic import op
from sqlalchemy import Column, Integer, String

from shared.persistence.migrations import create_write_probe

revision, down_revision = "loyalty_service_0001", None


def upgrade() -> None:
    op.create_table("points", Column("order_id", String, primary_key=True), Column("points", Integer, nullable=False))
    create_write_probe()

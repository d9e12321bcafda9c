"""Refunds that are to fail, and the row that says whether the database can be written."""

from alembic import op
from sqlalchemy import Column, MetaData, String, Table

from shared.persistence.migrations import create_write_probe

revision, down_revision = "gateway_0002", "gateway_0001"


def upgrade() -> None:
    failing_refunds = Table("failing_refunds", MetaData(), Column("order_id", String, primary_key=True))
    failing_refunds.create(op.get_bind(), checkfirst=True)
    create_write_probe()

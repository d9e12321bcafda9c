"""Refunds, and the row that says whether the database can be written."""

from sqlalchemy import Column, String

from shared.persistence.migrations import add_column, create_write_probe

revision, down_revision = "payment_service_0002", "payment_service_0001"


def upgrade() -> None:
    add_column("payments", Column("refund_id", String))
    create_write_probe()

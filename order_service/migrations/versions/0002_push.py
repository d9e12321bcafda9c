"""Notices by push, and the row that says whether the database can be written."""

from sqlalchemy import Boolean, Column, false

from shared.persistence.migrations import add_column, create_write_probe

revision, down_revision = "order_service_0002", "order_service_0001"


def upgrade() -> None:
    add_column("orders", Column("wants_push", Boolean, nullable=False, server_default=false()))
    create_write_probe()

"""The tables from before there were migrations."""

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table

from shared.persistence.migrations import add_outbox, adopt

revision, down_revision = "notification_service_0001", None

tables = MetaData()
Table(
    "notifications",
    tables,
    Column("idempotency_key", String, primary_key=True),
    Column("order_id", String, nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("notice", String, nullable=False),
    Column("status", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("event_id", String, nullable=False),
    Column("error", String),
)
add_outbox(tables)


def upgrade() -> None:
    adopt(tables)

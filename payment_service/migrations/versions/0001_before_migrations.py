"""The tables from before there were migrations."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table

from shared.persistence.migrations import add_outbox, adopt

revision, down_revision = "payment_service_0001", None

tables = MetaData()
Table(
    "payments",
    tables,
    Column("order_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("event_id", String, nullable=False),
    Column("charge_id", String),
    Column("detail", String),
)
add_outbox(tables)


def upgrade() -> None:
    adopt(tables)

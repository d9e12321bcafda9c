"""The tables from before there were migrations."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table

from shared.persistence.migrations import adopt

revision, down_revision = "gateway_0001", None

tables = MetaData()
Table(
    "ledger",
    tables,
    Column("idempotency_key", String, primary_key=True),
    Column("charge_id", String, nullable=False, unique=True),
    Column("order_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
Table(
    "tries",
    tables,
    Column("idempotency_key", String, primary_key=True),
    Column("count", Integer, nullable=False),
)


def upgrade() -> None:
    adopt(tables)

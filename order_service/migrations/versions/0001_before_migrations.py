"""The tables from before there were migrations."""

from alembic import op
from sqlalchemy import JSON, Boolean, Column, DateTime, Index, Integer, MetaData, String, Table

from shared.persistence.migrations import add_outbox, adopt

revision, down_revision = "order_service_0001", None

tables = MetaData()
Table(
    "orders",
    tables,
    Column("order_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("payment_token", String, nullable=False),
    Column("wants_sms", Boolean, nullable=False),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("sweeps", Integer, nullable=False),
    Column("quiet_since", DateTime(timezone=True)),
)
Table(
    "idempotency_keys",
    tables,
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("order_id", String, nullable=False),
)
Table(
    "timeline",
    tables,
    Column("event_id", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("order_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("timeline_of_order", "order_id", "position"),
)
Table(
    "duplicates",
    tables,
    Column("order_id", String, primary_key=True),
    Column("times", Integer, nullable=False),
)
add_outbox(tables)


def upgrade() -> None:
    adopt(tables)
    op.execute("CREATE INDEX IF NOT EXISTS open_orders ON orders (quiet_since) WHERE quiet_since IS NOT NULL")

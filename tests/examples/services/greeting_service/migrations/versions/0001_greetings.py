"""The greetings, the outbox, the row that says whether the database can be written, and how far it is pruned."""

from sqlalchemy import Column, DateTime, MetaData, String, Table

from shared.persistence.migrations import add_outbox, adopt, create_milestones, create_write_probe

revision, down_revision = "greeting_service_0001", None

tables = MetaData()
Table(
    "greetings",
    tables,
    Column("greeting_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("name", String, nullable=False),
    Column("language", String, nullable=False),
    Column("text", String, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("event_id", String, nullable=False),
)
add_outbox(tables)


def upgrade() -> None:
    adopt(tables)
    create_write_probe()
    create_milestones()

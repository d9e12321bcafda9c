"""The table of the greeting service."""

from sqlalchemy import Column, MetaData, String, Table

from greeting_service.contract import CONTRACT
from greeting_service.greetings import REPLACES, Greeting
from shared.persistence.keyed import KeyedStore
from shared.persistence.outbox import Outbox
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

table = Table(
    "greetings",
    metadata,
    Column("greeting_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("name", String, nullable=False),
    Column("language", String, nullable=False),
    Column("text", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event_id", String, nullable=False),
)

greetings = KeyedStore(table, outbox, to_row=vars, from_row=lambda row: Greeting(**row._asdict()), replaces=REPLACES)
prune = Prune(table.c.greeting_id)

"""The table of the herald service."""

from sqlalchemy import Column, MetaData, String, Table

from herald_service.contract import CONTRACT
from herald_service.herald import REPLACES, Entry
from shared.persistence.keyed import KeyedStore
from shared.persistence.outbox import Outbox
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

entries = Table(
    "herald",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event_id", String, nullable=False),
)

records = KeyedStore(entries, outbox, to_row=vars, from_row=lambda row: Entry(**row._asdict()), replaces=REPLACES)
prune = Prune(entries.c.order_id)

"""The table of the diary service, and its only SQL."""

from dataclasses import asdict

from sqlalchemy import Column, Connection, MetaData, String, Table, select

from diary_service.diary import Entry
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.one_of import one_of
from shared.persistence.pages import ReadPages
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

metadata = MetaData()

entries = Table(
    "diary",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("cause", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

_insert_new = BulkInsert(entries, lambda insert: skip_existing(insert).returning(entries.c.order_id))
_by_key = select(entries).where(one_of(entries.c.order_id, "keys"))
pages = ReadPages(entries, entries.c.order_id)
prune = Prune(entries.c.order_id)


def record(connection: Connection, new: list[Entry]) -> list[bool]:
    """Write each entry unless its order has one; for each, whether it is new."""
    rows = {entry.order_id: asdict(entry) for entry in new}  # once, also where one batch has the order twice
    written = {row.order_id for row in _insert_new.run(connection, list(rows.values()))}
    return [entry.order_id in written for entry in new]


def get(connection: Connection, keys: list[str]) -> list[Entry | None]:
    """The entry of each order, or None."""
    found = {row.order_id: Entry(**row._asdict()) for row in connection.execute(_by_key, {"keys": set(keys)})}
    return [found.get(key) for key in keys]

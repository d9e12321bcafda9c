"""The tables of the right way: orders with their outbox, and the record of the work, whose primary key is its key."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Column, Connection, Integer, MetaData, Table

from shared.events import Event
from shared.persistence import schema
from shared.persistence.backends import backend_of
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.database import Database
from shared.persistence.outbox import Outbox

work = MetaData()
done = Table("done", work, Column("number", Integer, primary_key=True))
_insert_new = BulkInsert(done, lambda insert: skip_existing(insert).returning(done.c.number))


class Books:
    """The orders of a shop and the outbox, whose events go to `exchange`."""

    def __init__(self, exchange: str) -> None:
        self.metadata = MetaData()
        self._insert = BulkInsert(Table("orders", self.metadata, Column("number", Integer, primary_key=True)))
        self.outbox = Outbox(self.metadata, exchange)

    def place(self, connection: Connection, events: list[Event]) -> list[None]:
        """Each order and its event, in one commit."""
        self._insert.run(connection, [{"number": event.data.number} for event in events])
        self.outbox.add(connection, events)
        return [None for _ in events]


def record(connection: Connection, numbers: list[int]) -> list[bool]:
    """Write down that the work of these orders is done; for each, whether it is new."""
    written = {row.number for row in _insert_new.run(connection, [{"number": number} for number in set(numbers)])}
    return [number in written for number in numbers]


def database(file: Path, metadata: MetaData) -> Database:
    """A SQLite database with these tables, not started."""
    url = f"sqlite:///{file}"
    engine = backend_of(url).engine
    for each in (metadata, schema.every_database):
        each.create_all(engine)
    engine.dispose()
    return Database(url, metadata, name=file.stem)


def numbers_in(file: Path, table: str) -> set[int] | None:
    """The orders in a table, `orders` or `done`; None where there is no such database."""
    if not file.exists():
        return None
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return {number for (number,) in database.execute(f"SELECT number FROM {table}")}  # noqa: S608 - a constant


def unpublished(file: Path) -> set[int]:
    """The orders whose event is in the outbox."""
    if not file.exists():
        return set()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        bodies = database.execute("SELECT body FROM outbox").fetchall()
    return {json.loads(body)["data"]["number"] for (body,) in bodies}

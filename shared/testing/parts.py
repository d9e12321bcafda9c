"""Parts of a service on their own: started and ready, and databases that have their tables."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, MetaData, Row, select

from shared.events import Event, decode
from shared.persistence import schema
from shared.persistence.backends import backend_of
from shared.persistence.database import Database
from shared.persistence.outbox import Outbox
from shared.service import Component
from shared.testing.waiting import eventually

Started = TypeVar("Started", bound=Component)


async def start_ready(component: Component) -> None:
    """Start a component of a service, and wait until it has all that it needs: a busy machine may take its time."""
    await component.start()
    await eventually(lambda: component.problem() is None, 30, "it to be ready")


@asynccontextmanager
async def ready(component: Started) -> AsyncIterator[Started]:
    """The component, started and ready, until the block ends."""
    await start_ready(component)
    try:
        yield component
    finally:
        await component.stop()


def create_tables(url: str, metadata: MetaData) -> None:
    """What migrations would make, without a history: for tests of a part that has tables of its own."""
    engine = backend_of(url).engine
    for each in (metadata, schema.every_database):
        each.create_all(engine)
    engine.dispose()


def new_database(url: str, metadata: MetaData, *, name: str) -> Database:
    """A database that has its tables, not started."""
    create_tables(url, metadata)
    return Database(url, metadata, name=name)


def rows_of(url: str, metadata: MetaData, *, but: Collection[str] = ()) -> dict[str, list[Row[Any]]]:
    """All rows of every table, by table, except those of some."""
    engine = backend_of(url).engine
    with engine.connect() as connection:
        tables = [table for table in metadata.sorted_tables if table.name not in but]
        rows = {table.name: list(connection.execute(select(table))) for table in tables}
    engine.dispose()
    return rows


async def outbox_events(database: Database, outbox: Outbox) -> list[Event]:
    """The events that wait in the outbox, oldest first."""

    def read(connection: Connection, limits: list[int]) -> list[list[Event]]:
        return [[decode(row.message.body) for row in outbox.waiting(connection, limit)] for limit in limits]

    return await database.read(read, 1000)

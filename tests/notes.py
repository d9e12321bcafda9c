"""A table of notes, with operations over it, for tests of the database."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import sqlalchemy
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select

from shared.persistence.database import Database
from shared.persistence.utc import UtcDateTime
from tests.support import new_database, start_ready

metadata = MetaData()
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", String, nullable=False),
    Column("at", UtcDateTime),
)

batches: list[int] = []
"""How many rows each call of `write_notes` got."""


def write_notes(connection: Connection, rows: list[tuple[int, str]]) -> list[str]:
    batches.append(len(rows))
    connection.execute(insert(notes), [{"id": number, "text": text} for number, text in rows])
    return [f"wrote {number}" for number, _ in rows]


def read_notes(connection: Connection, numbers: list[int]) -> list[str | None]:
    found = {row.id: row.text for row in connection.execute(select(notes))}
    return [found.get(number) for number in numbers]


def count_notes(connection: Connection, rows: Sequence[None]) -> list[int]:
    return [connection.execute(select(sqlalchemy.func.count()).select_from(notes)).scalar_one()] * len(rows)


def refuse_odd(connection: Connection, numbers: list[int]) -> list[int]:
    if odd := [number for number in numbers if number % 2]:
        raise ValueError(f"odd: {odd}")
    return numbers


@asynccontextmanager
async def opened(url: str, metadata: MetaData = metadata, *, is_ready: bool = True) -> AsyncIterator[Database]:
    """A database, until the block ends. `is_ready`: create its tables, and wait until it is."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    database = new_database(url, metadata, name=name) if is_ready else Database(url, metadata, name=name)
    await (start_ready(database) if is_ready else database.start())
    try:
        yield database
    finally:
        await database.stop()

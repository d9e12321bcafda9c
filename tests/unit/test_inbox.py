"""The record of work done: the first delivery writes it, every other finds it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select

from shared.persistence.database import Database
from shared.persistence.record_once import record_once
from tests.support import start_ready

metadata = MetaData()
work = Table(
    "work",
    metadata,
    Column("key", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("by", Integer, nullable=False),
)

Row = tuple[str, str, int]


def record(connection: Connection, rows: list[Row]) -> list[bool]:
    values = [{"key": key, "status": status, "by": by} for key, status, by in rows]
    return record_once(connection, work, values, provisional="failed")


def recorded(connection: Connection, keys: list[str]) -> list[tuple[str, int] | None]:
    rows = {row.key: (row.status, row.by) for row in connection.execute(select(work))}
    return [rows.get(key) for key in keys]


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, metadata, name="inbox")
    await start_ready(database)
    yield database
    await database.stop()


async def write(database: Database, *rows: Row) -> list[bool]:
    """In one group."""
    return await asyncio.gather(*(database.write(record, row) for row in rows))


async def test_the_first_record_of_a_key_stays(database: Database) -> None:
    assert await write(database, ("a", "done", 1)) == [True]
    assert await write(database, ("a", "done", 2)) == [False]
    assert await database.read(recorded, "a") == ("done", 1)


async def test_a_group_with_the_same_key_many_times_writes_it_once(database: Database) -> None:
    written = await write(database, *(("a", "done", number) for number in range(10)), ("b", "done", 99))

    assert written == [True] + [False] * 9 + [True]
    assert await database.read(recorded, "a") == ("done", 0)


async def test_work_that_was_given_up_gives_way_to_work_done(database: Database) -> None:
    assert await write(database, ("a", "failed", 1)) == [True]
    assert await write(database, ("a", "failed", 2)) == [False]
    assert await write(database, ("a", "done", 3)) == [True]
    assert await write(database, ("a", "failed", 4), ("a", "done", 5)) == [False, False]
    assert await database.read(recorded, "a") == ("done", 3)


@pytest.mark.parametrize("done_first", [True, False])
async def test_in_one_group_done_wins_over_given_up(database: Database, done_first: bool) -> None:
    rows: list[Row] = [("a", "done", 1), ("a", "failed", 2)]
    written = await write(database, *(rows if done_first else reversed(rows)))

    assert written == [done_first, not done_first]
    assert await database.read(recorded, "a") == ("done", 1)


async def test_two_writers_at_once_record_a_key_once(database_url: str) -> None:
    databases = [Database(database_url, metadata, name=f"inbox-{number}") for number in range(2)]
    for database in databases:
        await start_ready(database)
    keys = [f"key-{number:03}" for number in range(50)]

    async def write_all(by: int) -> list[bool]:
        return await write(databases[by], *((key, "done", by) for key in keys))

    first, second = await asyncio.gather(write_all(0), write_all(1))

    assert [one != other for one, other in zip(first, second, strict=True)] == [True] * len(keys)
    winners = [await databases[0].read(recorded, key) for key in keys]
    assert winners == [("done", 0 if is_first else 1) for is_first in first]
    for database in databases:
        await database.stop()

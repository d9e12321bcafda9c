"""Operations over many rows in one transaction, on both databases: results, failures, and what is on disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.transactions import hand_over
from tests.notes import batches, count_notes, notes, opened, read_notes, refuse_odd, write_notes


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    batches.clear()
    async with opened(database_url) as database:
        yield database


def commits_and_rows(database: Database) -> list[float]:
    """As the service counts them."""
    names = ("order_rail_group_commits_total", "order_rail_rows_committed_total")
    return [REGISTRY.get_sample_value(name, {"database": database._name}) or 0.0 for name in names]


async def write_all(database: Database, *numbers: int) -> list[Any]:
    writes = (database.write(write_notes, (number, f"text {number}")) for number in numbers)
    return await asyncio.gather(*writes, return_exceptions=True)


async def test_rows_that_wait_are_written_in_one_transaction(database: Database) -> None:
    commits, rows = commits_and_rows(database)  # the tables were created by one
    assert await write_all(database, *range(200)) == [f"wrote {number}" for number in range(200)]
    assert batches == [200]
    assert commits_and_rows(database) == [commits + 1, rows + 200]


async def test_a_row_may_linger_until_another_one_comes(database: Database) -> None:
    lingering = asyncio.create_task(database.write(write_notes, (1, "text"), linger_seconds=60))
    await asyncio.sleep(0)
    await write_all(database, 2)
    await lingering
    assert batches == [2]


async def test_a_look_up_sees_all_that_is_committed(database: Database) -> None:
    await write_all(database, 0, 1, 2)
    found = await asyncio.gather(*(database.look_up(read_notes, number) for number in (2, 0, 5)))
    assert found == ["text 2", "text 0", None]


async def test_no_lock_holds_up_a_look_up(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        await write_all(database, 1)
        with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("UPDATE notes SET text = 'not yet'")
            assert await database.look_up(read_notes, 1) == "text 1"


async def test_a_row_that_exists_fails_alone(database: Database) -> None:
    await database.write(write_notes, (3, "was here first"))
    _, rows = commits_and_rows(database)

    results = await write_all(database, *range(6))

    assert isinstance(results.pop(3), IntegrityError)
    assert results == [f"wrote {number}" for number in (0, 1, 2, 4, 5)]
    assert await database.read(read_notes, 3) == "was here first"
    assert await database.read(count_notes, None) == 6
    assert commits_and_rows(database)[1] == rows + 5


@pytest.mark.parametrize("call", [Database.write, Database.read, Database.look_up])
async def test_what_an_operation_raises_reaches_its_own_caller_only(database: Database, call: Any) -> None:
    calls = (call(database, refuse_odd, 2), call(database, count_notes, None), call(database, refuse_odd, 3))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results] == ["2", "0", "odd: [3]"]


async def test_each_operation_runs_once_over_its_rows_and_each_caller_gets_its_own_result(database: Database) -> None:
    def double(connection: Connection, numbers: list[int]) -> list[int]:
        batches.append(len(numbers))
        return [2 * number for number in numbers]

    mixed = [database.write(double, number) if number % 2 else database.write(write_notes, (number, "text"))
             for number in range(20)]  # fmt: skip
    results: list[object] = await asyncio.gather(*mixed)

    assert results == [2 * number if number % 2 else f"wrote {number}" for number in range(20)]
    assert batches == [10, 10]


async def test_what_waits_is_written_before_it_closes(database_url: str) -> None:
    async with opened(database_url) as database:
        writing = asyncio.create_task(write_all(database, *range(50)))
        await asyncio.sleep(0)

    assert await writing == [f"wrote {number}" for number in range(50)]
    with pytest.raises(DatabaseUnavailable):
        await database.write(write_notes, (51, "too late"))
    async with opened(database_url) as again:
        assert await again.read(count_notes, None) == 50


async def test_times_come_back_as_aware_utc(database: Database) -> None:
    noon = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    def write_and_read(connection: Connection, rows: list[datetime]) -> list[datetime]:
        connection.execute(insert(notes), [{"id": 1, "text": "", "at": row} for row in rows])
        return [connection.execute(select(notes.c.at)).scalar_one()] * len(rows)

    read = await database.write(write_and_read, noon)
    assert read == noon
    assert read.tzinfo is UTC


async def test_an_insert_passes_over_keys_that_are_there(database: Database) -> None:
    def insert_all(connection: Connection, rows: list[int]) -> list[int]:
        BulkInsert(notes, skip_existing).run(connection, [{"id": row, "text": "new"} for row in rows])
        return rows

    await database.write(write_notes, (1, "old"))
    await asyncio.gather(*(database.write(insert_all, number) for number in (1, 2, 2)))
    assert [await database.read(read_notes, number) for number in (1, 2)] == ["old", "new"]


def nothing(connection: Connection) -> None:
    pass


async def test_an_open_transaction_is_undone_when_its_holder_fails(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(partial(write_notes, rows=[(1, "text")]), nothing):
            raise ZeroDivisionError
    async with database.transaction(nothing, partial(write_notes, rows=[(2, "text")])):
        pass
    assert [await database.read(read_notes, number) for number in (1, 2)] == [None, "text"]


async def test_only_what_is_committed_is_handed_over(database: Database) -> None:
    def write_and_hand_over(connection: Connection, rows: list[tuple[int, str]]) -> list[str]:
        hand_over(connection, rows)
        return write_notes(connection, rows)

    commits: list[Any] = []
    database.on_commit.append(commits.append)
    await database.write(write_and_hand_over, (1, "text"))
    with pytest.raises(IntegrityError):
        await database.write(write_and_hand_over, (1, "again"))
    await database.write(write_notes, (2, "text"))
    assert commits == [[[(1, "text")]], []]


async def test_sqlite_has_a_commit_on_disk_before_a_caller_is_woken(tmp_path: Path) -> None:
    def pragmas(connection: Connection, rows: list[None]) -> list[tuple[object, object]]:
        journal, synchronous = (connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in
                                ("journal_mode", "synchronous"))  # fmt: skip
        return [(journal, synchronous)] * len(rows)

    async with opened(f"sqlite:///{tmp_path}/a/new/folder/file.db") as database:
        assert await database.write(pragmas, None) == ("wal", 2)  # 2 is FULL

"""The group commit: one transaction for all that waits, and each caller gets its own result or its own error."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from shared.persistence import batcher
from shared.persistence.backends import insert_new
from shared.persistence.batcher import ENOUGH_ROWS, MAX_ROWS
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.transactions import hand_over
from tests.notes import count_notes, groups, notes, opened, read_notes, refuse_odd, write_notes


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    groups.clear()
    async with opened(database_url) as database:
        yield database


def counted(metric: str, database: Database) -> float:
    return REGISTRY.get_sample_value(f"order_rail_{metric}_total", {"database": database._name}) or 0.0


async def test_all_that_waits_is_written_in_one_transaction(database: Database) -> None:
    commits_before = counted("group_commits", database)  # the tables were made by one
    rows_before = counted("rows_committed", database)

    results = await asyncio.gather(*(database.write(write_notes, (number, "text")) for number in range(200)))

    assert results == [f"wrote {number}" for number in range(200)]
    assert groups == [200]
    assert counted("group_commits", database) - commits_before == 1
    assert counted("rows_committed", database) - rows_before == 200


@pytest.fixture
def tired(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the database rests for a minute after each transaction."""
    monkeypatch.setattr(batcher, "LINGER_FACTOR", 1e9)
    monkeypatch.setattr(database._writer, "_linger_seconds", 60)


@pytest.mark.usefixtures("tired")
async def test_a_crowd_that_writes_over_and_over_shares_each_transaction(database: Database) -> None:
    async def write_three(first: int) -> None:
        for number in range(first, first + 3):
            await database.write(write_notes, (number, "text"))
            for _ in range(first):  # not all of them come back at once
                await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(write_three(10 * number) for number in range(ENOUGH_ROWS + 5)))

    assert groups == [ENOUGH_ROWS + 5] * 3


async def test_those_who_come_shortly_after_a_transaction_share_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher, "LINGER_FACTOR", 1e9)
    monkeypatch.setattr(database._writer, "_linger_seconds", 0.3)
    await asyncio.gather(*(database.write(write_notes, (number, "text")) for number in range(2)))

    writing = []
    for number in range(2, ENOUGH_ROWS):
        writing.append(asyncio.create_task(database.write(write_notes, (number, "text"))))
        await asyncio.sleep(0)
    await asyncio.gather(*writing)

    assert groups == [2, ENOUGH_ROWS - 2]


@pytest.mark.usefixtures("tired")
async def test_where_one_comes_at_a_time_nobody_waits(database: Database) -> None:
    async with asyncio.timeout(30):
        for number in range(3):
            await database.write(write_notes, (number, "text"))

    assert groups == [1, 1, 1]


@pytest.mark.usefixtures("tired")
async def test_nobody_has_to_wait_when_the_database_stops(database: Database) -> None:
    await asyncio.gather(*(database.write(write_notes, (number, "text")) for number in range(2)))
    writing = asyncio.create_task(database.write(write_notes, (2, "text")))
    await asyncio.sleep(0)
    assert not writing.done()

    async with asyncio.timeout(30):
        await database.stop()

    assert await writing == "wrote 2"


async def test_who_has_patience_waits_for_company(database: Database) -> None:
    patient = [
        asyncio.create_task(database.write(write_notes, (number, "text"), linger_seconds=60)) for number in range(2)
    ]
    await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await database.write(write_notes, (2, "urgent"))
        await asyncio.gather(*patient)

    assert groups == [3]


@pytest.mark.parametrize("end", ["patience", "a crowd", "the database stops"])
async def test_patience_ends(database: Database, end: str) -> None:
    count, linger_seconds = (ENOUGH_ROWS, 60.0) if end == "a crowd" else (2, 0.2 if end == "patience" else 60.0)
    writing = []
    for number in range(count):
        writing.append(
            asyncio.create_task(database.write(write_notes, (number, "text"), linger_seconds=linger_seconds))
        )
        await asyncio.sleep(0)
    assert groups == []

    async with asyncio.timeout(30):
        if end == "the database stops":
            await database.stop()
        await asyncio.gather(*writing)

    assert groups == [count]


async def test_those_that_are_too_many_for_one_transaction_need_no_patience_for_the_next(database: Database) -> None:
    many = MAX_ROWS + 1
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(database.write(write_notes, (number, "text"), linger_seconds=60) for number in range(many))
        )

    assert groups == [MAX_ROWS, 1]


async def test_a_look_up_sees_all_that_is_committed(database: Database) -> None:
    await asyncio.gather(*(database.write(write_notes, (number, f"text {number}")) for number in range(3)))

    assert await asyncio.gather(*(database.look_up(read_notes, number) for number in (2, 0, 5))) == [
        "text 2", "text 0", None
    ]  # fmt: skip


async def test_no_lock_holds_up_a_look_up(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        await database.write(write_notes, (1, "text"))
        with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("UPDATE notes SET text = 'not yet'")

            assert await database.look_up(read_notes, 1) == "text"


async def test_a_look_up_that_fails_fails_alone(database: Database) -> None:
    results = await asyncio.gather(*(database.look_up(refuse_odd, number) for number in (2, 3)), return_exceptions=True)

    assert results[0] == 2
    assert isinstance(results[1], ValueError)


async def test_a_group_has_an_upper_bound(database: Database) -> None:
    many = MAX_ROWS * 2 + 1
    await asyncio.gather(*(database.write(write_notes, (number, "text")) for number in range(many)))

    assert groups == [MAX_ROWS, MAX_ROWS, 1]


async def test_a_bad_row_fails_alone(database: Database) -> None:
    await database.write(write_notes, (3, "was here first"))
    rows_before = counted("rows_committed", database)

    results = await asyncio.gather(
        *(database.write(write_notes, (number, "text")) for number in range(6)), return_exceptions=True
    )

    assert isinstance(results[3], IntegrityError)
    assert [result for number, result in enumerate(results) if number != 3] == [
        f"wrote {number}" for number in (0, 1, 2, 4, 5)
    ]
    assert await database.read(read_notes, 3) == "was here first"
    assert await database.read(count_notes, None) == 6
    assert counted("rows_committed", database) - rows_before == 5


async def test_what_an_operation_raises_reaches_its_own_caller_only(database: Database) -> None:
    results = await asyncio.gather(
        database.write(refuse_odd, 2),
        database.write(write_notes, (1, "text")),
        database.write(refuse_odd, 3),
        database.write(refuse_odd, 4),
        return_exceptions=True,
    )

    assert str(results[2]) == "odd: [3]"
    assert [results[0], results[1], results[3]] == [2, "wrote 1", 4]


async def test_each_operation_runs_once_over_its_rows_and_each_caller_gets_its_own_result(database: Database) -> None:
    def double(connection: Connection, numbers: list[int]) -> list[int]:
        groups.append(len(numbers))
        return [2 * number for number in numbers]

    mixed = [
        database.write(double, number) if number % 2 else database.write(write_notes, (number, "text"))
        for number in range(20)
    ]
    results: list[object] = await asyncio.gather(*mixed)

    assert results == [2 * number if number % 2 else f"wrote {number}" for number in range(20)]
    assert groups == [10, 10]


async def test_a_cancelled_caller_disturbs_nobody(database: Database) -> None:
    writes = [asyncio.create_task(database.write(write_notes, (number, "text"))) for number in range(10)]
    await asyncio.sleep(0)  # all of them are waiting now
    writes[4].cancel()

    results = await asyncio.gather(*writes, return_exceptions=True)

    assert isinstance(results[4], asyncio.CancelledError)
    assert sum(isinstance(result, str) for result in results) == 9
    assert await database.write(write_notes, (10, "text")) == "wrote 10"


async def test_what_waits_is_written_before_it_closes(database_url: str) -> None:
    async with opened(database_url) as database:
        writes = [asyncio.create_task(database.write(write_notes, (number, "text"))) for number in range(50)]
        await asyncio.sleep(0)

    assert await asyncio.gather(*writes) == [f"wrote {number}" for number in range(50)]
    with pytest.raises(DatabaseUnavailable):
        await database.write(write_notes, (51, "too late"))
    async with opened(database_url) as again:
        assert await again.read(count_notes, None) == 50


async def test_times_come_back_as_aware_utc(database: Database) -> None:
    noon = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))

    def write_time(connection: Connection, rows: list[datetime]) -> list[None]:
        connection.execute(insert(notes), [{"id": 1, "text": "", "at": row} for row in rows])
        return [None] * len(rows)

    def read_time(connection: Connection, rows: list[None]) -> list[datetime]:
        return [connection.execute(select(notes.c.at)).scalar_one()] * len(rows)

    await database.write(write_time, noon)
    read = await database.read(read_time, None)

    assert read == noon
    assert read.tzinfo is UTC


async def test_an_insert_passes_over_keys_that_are_there(database: Database) -> None:
    def insert_all(connection: Connection, rows: list[int]) -> list[int]:
        connection.execute(insert_new(connection, notes), [{"id": row, "text": "new"} for row in rows])
        return rows

    await database.write(write_notes, (1, "old"))
    await asyncio.gather(*(database.write(insert_all, number) for number in (1, 2, 2)))

    assert [await database.read(read_notes, number) for number in (1, 2)] == ["old", "new"]


async def test_an_open_transaction_is_undone_when_its_holder_fails(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as run:
            await run(write_notes, [(1, "text")])
            raise ZeroDivisionError
    async with database.transaction() as run:
        await run(write_notes, [(2, "text")])

    assert [await database.read(read_notes, number) for number in (1, 2)] == [None, "text"]


async def test_every_commit_tells_those_who_asked_and_a_failure_tells_nobody(database: Database) -> None:
    def write_and_tell(connection: Connection, rows: list[tuple[int, str]]) -> list[str]:
        hand_over(connection, rows)
        return write_notes(connection, rows)

    told: list[Any] = []
    database.on_commit.append(told.append)

    await database.write(write_and_tell, (1, "text"))
    with pytest.raises(IntegrityError):
        await database.write(write_and_tell, (1, "again"))
    await database.write(write_notes, (2, "text"))

    assert told == [[[(1, "text")]], []]


async def test_sqlite_has_a_commit_on_disk_before_it_is_told(tmp_path: Path) -> None:
    def pragmas(connection: Connection, rows: list[None]) -> list[tuple[object, object]]:
        names = ("journal_mode", "synchronous")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
        return [(values[0], values[1])] * len(rows)

    async with opened(f"sqlite:///{tmp_path}/a/new/folder/file.db") as database:
        assert await database.write(pragmas, None) == ("wal", 2)  # 2 is FULL

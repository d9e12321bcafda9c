"""The group commit: one transaction for all that waits, and each caller gets its own result or its own error."""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy
from prometheus_client import REGISTRY
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from shared.persistence import database as module
from shared.persistence import group_commit
from shared.persistence.database import Database, UtcDateTime, insert_new
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.group_commit import CROWD_ROWS, MAX_GROUP_ROWS, tell_after_commit
from tests.pgbouncer import PrivatePgBouncer
from tests.postgres import PrivatePostgres
from tests.support import eventually, start_ready

metadata = MetaData()
notes = Table(
    "notes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("text", String, nullable=False),
    Column("at", UtcDateTime),
)

groups: list[int] = []
"""How many rows each call of `write_notes` was given."""


def write_notes(connection: Connection, rows: list[tuple[int, str]]) -> list[str]:
    groups.append(len(rows))
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
async def opened(url: str, *, is_there: bool = True) -> AsyncIterator[Database]:
    database = Database(url, metadata, name=f"test-{uuid.uuid4().hex[:8]}")
    await (start_ready(database) if is_there else database.start())
    yield database
    await database.stop()


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
    monkeypatch.setattr(group_commit, "REST", 1e9)
    monkeypatch.setattr(group_commit, "LONGEST_REST_SECONDS", 60)


@pytest.mark.usefixtures("tired")
async def test_a_crowd_that_writes_over_and_over_shares_each_transaction(database: Database) -> None:
    async def write_three(first: int) -> None:
        for number in range(first, first + 3):
            await database.write(write_notes, (number, "text"))
            for _ in range(first):  # not all of them come back at once
                await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await asyncio.gather(*(write_three(10 * number) for number in range(CROWD_ROWS + 5)))

    assert groups == [CROWD_ROWS + 5] * 3


async def test_those_who_come_shortly_after_a_transaction_share_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "REST", 1e9)
    monkeypatch.setattr(group_commit, "LONGEST_REST_SECONDS", 0.3)
    await asyncio.gather(*(database.write(write_notes, (number, "text")) for number in range(2)))

    writing = []
    for number in range(2, CROWD_ROWS):
        writing.append(asyncio.create_task(database.write(write_notes, (number, "text"))))
        await asyncio.sleep(0)
    await asyncio.gather(*writing)

    assert groups == [2, CROWD_ROWS - 2]


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
        asyncio.create_task(database.write(write_notes, (number, "text"), patience_seconds=60)) for number in range(2)
    ]
    await asyncio.sleep(0)

    async with asyncio.timeout(30):
        await database.write(write_notes, (2, "urgent"))
        await asyncio.gather(*patient)

    assert groups == [3]


@pytest.mark.parametrize("end", ["patience", "a crowd", "the database stops"])
async def test_patience_ends(database: Database, end: str) -> None:
    count, patience_seconds = (CROWD_ROWS, 60.0) if end == "a crowd" else (2, 0.2 if end == "patience" else 60.0)
    writing = []
    for number in range(count):
        writing.append(
            asyncio.create_task(database.write(write_notes, (number, "text"), patience_seconds=patience_seconds))
        )
        await asyncio.sleep(0)
    assert groups == []

    async with asyncio.timeout(30):
        if end == "the database stops":
            await database.stop()
        await asyncio.gather(*writing)

    assert groups == [count]


async def test_those_that_are_too_many_for_one_transaction_need_no_patience_for_the_next(database: Database) -> None:
    many = MAX_GROUP_ROWS + 1
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(database.write(write_notes, (number, "text"), patience_seconds=60) for number in range(many))
        )

    assert groups == [MAX_GROUP_ROWS, 1]


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
    many = MAX_GROUP_ROWS * 2 + 1
    await asyncio.gather(*(database.write(write_notes, (number, "text")) for number in range(many)))

    assert groups == [MAX_GROUP_ROWS, MAX_GROUP_ROWS, 1]


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
        async with database.transaction() as transaction:
            await transaction.run(write_notes, [(1, "text")])
            raise ZeroDivisionError
    async with database.transaction() as transaction:
        await transaction.run(write_notes, [(2, "text")])

    assert [await database.read(read_notes, number) for number in (1, 2)] == [None, "text"]


async def test_every_commit_tells_those_who_asked_and_a_failure_tells_nobody(database: Database) -> None:
    def write_and_tell(connection: Connection, rows: list[tuple[int, str]]) -> list[str]:
        tell_after_commit(connection, rows)
        return write_notes(connection, rows)

    told: list[Any] = []
    database.after_commit.append(told.append)

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


async def test_a_locked_database_is_unavailable_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.1)
    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        results = await asyncio.gather(
            *(database.write(write_notes, (number, "text")) for number in range(100)), return_exceptions=True
        )
        assert {type(result) for result in results} == {DatabaseUnavailable}
        assert str(results[0]) == "database is locked"
        assert database.problem() == "database: database is locked"
        assert await database.read(count_notes, None) == 0  # readers are not held up

        other.execute("ROLLBACK")
        other.close()
        assert await database.write(write_notes, (1, "text")) == "wrote 1"
        assert database.problem() is None


async def test_while_the_database_is_locked_it_is_not_ready_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOCK_TIMEOUT_SECONDS", 0.1), ("PROBE_SECONDS", 0.1), ("PROBE_PAUSE_SECONDS", 0.05)):
        monkeypatch.setattr(module, name, seconds)
    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await eventually(database.problem, expecting="it to be found out, though nobody writes")
            for _ in range(10):  # each of them longer than the pause after a probe
                with pytest.raises(DatabaseUnavailable):
                    await database.write(write_notes, (1, "text"))
                assert await database.read(count_notes, None) == 0
                assert database.problem()
        await eventually(lambda: database.problem() is None, expecting="it to be found out, though nobody writes")


async def test_a_database_that_only_reads_is_not_ready_though_nobody_writes(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.1)
    url = postgres.create_database()
    name = url.rpartition("/")[2]
    async with opened(url) as database:
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as other:
            other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            await eventually(database.problem, expecting="it to be found out")
            assert "read-only" in (database.problem() or "")
            with pytest.raises(DatabaseUnavailable):
                await database.write(write_notes, (1, "text"))
            assert await database.read(count_notes, None) == 0
            other.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await eventually(lambda: database.problem() is None, expecting="new connections to be made")
        assert await database.write(write_notes, (1, "text")) == "wrote 1"


async def test_transactions_that_deadlock_are_run_again(postgres: PrivatePostgres) -> None:
    def move(connection: Connection, rows: list[tuple[int, int]]) -> list[None]:
        for number in (number for row in rows for number in row):
            connection.execute(notes.update().where(notes.c.id == number).values(text="moved"))
            connection.exec_driver_sql("SELECT pg_sleep(0.05)")
        return [None] * len(rows)

    url = postgres.create_database()
    async with opened(url) as first, opened(url) as second:
        await asyncio.gather(*(first.write(write_notes, (number, "text")) for number in (1, 2)))
        for _ in range(3):
            await asyncio.gather(first.write(move, (1, 2)), second.write(move, (2, 1)))
        with psycopg.connect(url, autocommit=True) as connection:
            await eventually(lambda: deadlocks(connection), expecting="PostgreSQL to have counted one")


def deadlocks(connection: psycopg.Connection[tuple[int]]) -> int:
    counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    return (connection.execute(counted).fetchone() or (0,))[0]


async def test_a_full_database_is_unavailable_loses_nothing_and_recovers(tmp_path: Path) -> None:
    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        written = []
        await database.write(limit_pages, 16)
        with pytest.raises(DatabaseUnavailable, match="full"):
            for number in range(1000):
                await database.write(write_notes, (number, "text" * 1000))
                written.append(number)
        assert 0 < len(written) < 100
        assert await database.read(count_notes, None) == len(written)

        await database.write(limit_pages, 1000)
        assert await database.write(write_notes, (len(written), "text" * 1000)) == f"wrote {len(written)}"


def limit_pages(connection: Connection, limits: list[int]) -> list[int]:
    return [connection.exec_driver_sql(f"PRAGMA max_page_count = {limit}").scalar_one() for limit in limits]


async def test_tables_of_another_version_are_told_apart_at_the_start(database_url: str) -> None:
    async with opened(database_url):
        pass
    newer = MetaData()
    Table(notes.name, newer, Column("id", Integer, primary_key=True), Column("colour", Integer))
    database = Database(database_url, newer, name="test")
    await database.start()
    try:
        await eventually(lambda: "table notes has no column colour" in (database.problem() or ""))
        with pytest.raises(DatabaseUnavailable, match="colour"):
            await database.read(count_notes, None)
    finally:
        await database.stop()


async def test_a_database_server_that_is_away_is_waited_for(postgres: PrivatePostgres) -> None:
    url = postgres.create_database()
    postgres.stop()
    try:
        async with opened(url, is_there=False) as database:
            await eventually(lambda: "refused" in (database.problem() or ""))
            with pytest.raises(DatabaseUnavailable):
                await database.write(write_notes, (1, "text"))

            postgres.start()
            await eventually(lambda: database.problem() is None, expecting="the tables to be created")
            assert await database.write(write_notes, (1, "text")) == "wrote 1"

            postgres.stop()
            with pytest.raises(DatabaseUnavailable):
                await database.write(write_notes, (2, "text"))
            postgres.start()
            assert await database.write(write_notes, (2, "text")) == "wrote 2"
    finally:
        if not postgres.is_running:
            postgres.start()


async def test_behind_a_pooler_each_transaction_may_meet_another_server_process(postgres: PrivatePostgres) -> None:
    """PgBouncer in transaction mode: what was prepared on one server connection is not known to the next."""
    with PrivatePgBouncer(postgres.port) as pooler:
        url = pooler.url(postgres.create_database())
        groups.clear()
        async with opened(url) as first, opened(url) as second:
            for number in range(0, 80, 8):
                databases = [first, second] * 4
                await asyncio.gather(
                    *(each.write(write_notes, (number + n, "text")) for n, each in enumerate(databases)),
                    *(each.read(read_notes, number) for each in databases),
                    *(hold_a_transaction(each) for each in databases),
                )
            assert await first.read(count_notes, None) == 80
            assert first.problem() is second.problem() is None


async def hold_a_transaction(database: Database) -> None:
    async with database.transaction() as transaction:
        await transaction.run(read_notes, [1])
        await transaction.run(count_notes, [None])


async def test_two_processes_may_create_the_same_tables_at_once(postgres: PrivatePostgres) -> None:
    url = postgres.create_database()
    async with opened(url) as first, opened(url) as second:
        await first.write(write_notes, (1, "text"))
        assert await second.read(read_notes, 1) == "text"
        assert first.is_shared

"""A database that is locked, full, away or read only: calls raise `DatabaseUnavailable` until it is back."""

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select

from shared.persistence import backends, schema
from shared.persistence import database as module
from shared.persistence.backends import backend_of
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from tests.notes import count_notes, metadata, notes, opened, read_notes, write_notes
from tests.pgbouncer import PrivatePgBouncer
from tests.postgres import PrivatePostgres, read_only
from tests.support import create_tables, eventually


async def test_a_locked_database_is_unavailable_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "LOCK_TIMEOUT_SECONDS", 0.1)
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


@pytest.mark.parametrize("name", ["test.db", "test.db-wal"])
async def test_nothing_is_written_to_a_file_that_is_gone(name: str, tmp_path: Path) -> None:
    """A deleted file can be written as long as it is open, and what is written goes with its process."""
    file, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        await database.write(write_notes, (1, "text"))
        file.rename(elsewhere)
        for is_replaced in (False, True):
            if is_replaced:
                file.touch()
            with pytest.raises(DatabaseUnavailable, match=r"test\.db-wal was deleted or replaced"):
                await database.write(write_notes, (2, "text"))
            assert "was deleted or replaced" in (database.problem() or "")

        elsewhere.rename(file)
        assert await database.write(write_notes, (2, "text")) == "wrote 2"
        assert await database.read(count_notes, None) == 2
        assert database.problem() is None


async def test_a_commit_that_changes_nothing_does_not_say_that_the_database_can_be_written(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it succeeds too."""
    monkeypatch.setattr(module, "PROBE_SECONDS", 3600.0)
    async with opened(database_url) as database:
        with pytest.raises(DatabaseUnavailable):
            await database.write(fail, None)
        assert await database.write(count_notes, None) == 0
        assert database.problem() == "database: full"

        await database.write(write_notes, (1, "text"))
        assert database.problem() is None


async def test_the_database_is_probed_though_commits_that_change_nothing_never_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.3)
    async with opened(database_url) as database:
        before = await database.read(read_probes, None)

        async def probes_meanwhile() -> int:
            await database.write(count_notes, None)
            return await database.read(read_probes, None) - before

        await eventually(probes_meanwhile, expecting="a probe")


def fail(connection: Connection, rows: list[None]) -> list[None]:
    raise DatabaseUnavailable("full")


def read_probes(connection: Connection, rows: list[None]) -> list[int]:
    return [connection.execute(select(schema.write_probe.c.probes)).scalar_one()] * len(rows)


async def test_readiness_does_not_flap_while_the_database_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "LOCK_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(module, "PROBE_PAUSE_SECONDS", 0.05)
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
    async with opened(url) as database:
        with read_only(url):
            await eventually(database.problem, expecting="it to be found out")
            assert "read-only" in (database.problem() or "")
            with pytest.raises(DatabaseUnavailable):
                await database.write(write_notes, (1, "text"))
            assert await database.read(count_notes, None) == 0
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


async def test_what_migrations_have_not_made_yet_is_named_and_waited_for(database_url: str) -> None:
    older, newer = MetaData(), MetaData()
    Table(notes.name, older, Column("id", Integer, primary_key=True))
    Table(notes.name, newer, Column("id", Integer, primary_key=True), Column("text", String), Column("colour", Integer))
    async with opened(database_url, newer, is_ready=False) as database:
        upgrade = "; run `order-rail database upgrade`"
        expected = f"database: there is no table milestones, notes, write_probe{upgrade}"
        await eventually(lambda: database.problem() == expected, expecting="the missing tables to be named")
        with pytest.raises(DatabaseUnavailable, match="there is no table"):
            await database.write(write_notes, (1, "text"))

        create_tables(database_url, older)
        expected = f"database: table notes has no column colour, text{upgrade}"
        await eventually(lambda: database.problem() == expected, expecting="the missing columns to be named")

        engine = backend_of(database_url).engine
        with engine.begin() as connection:
            for column in ("text VARCHAR", "colour INTEGER"):
                connection.exec_driver_sql(f"ALTER TABLE notes ADD COLUMN {column}")
        engine.dispose()
        await eventually(lambda: database.problem() is None, expecting="it to go on by itself")
        assert await database.write(write_notes, (1, "text")) == "wrote 1"


async def test_a_database_server_that_is_away_is_waited_for(postgres: PrivatePostgres) -> None:
    url = postgres.create_database()
    create_tables(url, metadata)
    postgres.stop()
    try:
        async with opened(url, is_ready=False) as database:
            await eventually(lambda: "refused" in (database.problem() or ""))
            with pytest.raises(DatabaseUnavailable):
                await database.write(write_notes, (1, "text"))

            postgres.start()
            await eventually(lambda: database.problem() is None, expecting="the database to be found")
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
        async with opened(url) as first, opened(url) as second:
            for number in range(0, 80, 8):
                databases = [first, second] * 4
                await asyncio.gather(
                    *(each.write(write_notes, (number + n, "text")) for n, each in enumerate(databases)),
                    *(each.read(read_notes, number) for each in databases),
                    *(hold_a_transaction(each) for each in (first, second)),
                )
            assert await first.read(count_notes, None) == 80
            assert first.problem() is second.problem() is None


async def hold_a_transaction(database: Database) -> None:
    async with database.transaction(partial(read_notes, numbers=[1]), partial(count_notes, rows=[None])):
        pass

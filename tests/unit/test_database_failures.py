"""Which errors are the database's fault, asked of a real PostgreSQL and a real SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.persistence import database as module
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from tests.notes import opened, read_notes, write_notes
from tests.postgres import PrivatePostgres
from tests.support import eventually

UNAVAILABLE = {
    "08006": "connection failure",
    "25006": "read only",
    "28P01": "wrong password",
    "3D000": "no such database",
    "42501": "no right to it",
    "42P01": "no such table",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55000": "not in the right state",
    "55P03": "locked",
    "57014": "cancelled, as by statement_timeout",
    "57P01": "shutting down",
    "57P03": "starting up",
    "58030": "input/output error",
    "40001": "serialization failure",
    "40P01": "deadlock",
    "XX000": "internal error",
}
THE_ROWS_FAULT = {
    "22001": "too long",
    "22021": "a character that is none",
    "22P02": "not of the type",
    "23502": "null",
    "23505": "there already",
    "23514": "against a check",
    "42601": "no SQL",
    "P0001": "raised",
}


@pytest_asyncio.fixture(scope="module")
async def database(postgres: PrivatePostgres) -> AsyncIterator[Database]:
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(module, "PROBE_SECONDS", 0.1)
        quick.setattr(module, "PROBE_PAUSE_SECONDS", 0.05)
        async with opened(postgres.create_database()) as database:
            yield database


def raise_state(connection: Connection, states: list[str]) -> list[None]:
    for state in states:
        connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}'; END $$")
    return [None for _ in states]


def end_own_connection(connection: Connection, rows: list[None]) -> list[None]:
    connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    return rows


@pytest.mark.parametrize("state", UNAVAILABLE, ids=UNAVAILABLE.values())
async def test_what_is_the_databases_fault_costs_nobody_an_attempt(
    database: Database, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_probe() -> None: ...

    with monkeypatch.context() as without_probes:  # the next one may be over before this test goes on
        without_probes.setattr(database, "_probe", no_probe)
        with pytest.raises(DatabaseUnavailable, match="on purpose"):
            await database.write(raise_state, state)
        assert database.problem()
    await eventually(lambda: database.problem() is None, expecting="the next probe")


@pytest.mark.parametrize("state", THE_ROWS_FAULT, ids=THE_ROWS_FAULT.values())
async def test_what_is_the_rows_fault_is_told_as_it_is(database: Database, state: str) -> None:
    with pytest.raises(DBAPIError):
        await database.write(raise_state, state)
    assert database.problem() is None


async def test_a_connection_that_ends_in_the_middle_is_the_databases_fault(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await database.write(end_own_connection, None)


@pytest.mark.parametrize(
    "change",
    [
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid != pg_backend_pid()""",
        "ALTER TABLE notes ALTER COLUMN text TYPE varchar(500)",
    ],
    ids=["was restarted", "has an altered table"],
)
async def test_a_server_that_changed_since_the_last_transaction_fails_no_call(
    postgres: PrivatePostgres, change: str
) -> None:
    """Connections are kept, and statements are prepared after their fifth time."""
    url = postgres.create_database()
    async with opened(url) as database:
        for number in range(8):
            await database.write(write_notes, (number, "before"))
            assert await database.read(read_notes, number) == await database.look_up(read_notes, number) == "before"
        with psycopg.connect(url, autocommit=True) as administrator:
            administrator.execute(change)
        assert await database.look_up(read_notes, 7) == "before"
        assert await database.read(read_notes, 7) == "before"
        assert await database.write(write_notes, (8, "after")) == "wrote 8"
        assert await database.look_up(read_notes, 8) == "after"


async def test_a_file_that_is_no_database_is_the_databases_fault(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"no database at all, and longer than the header of one" * 100)
    async with opened(f"sqlite:///{tmp_path}/test.db", is_ready=False) as database:
        await eventually(lambda: "not a database" in (database.problem() or ""), expecting="the problem")
        with pytest.raises(DatabaseUnavailable):
            await database.write(raise_state, "")


async def test_a_missing_table_is_the_databases_fault(tmp_path: Path) -> None:
    def use_missing_table(connection: Connection, rows: list[None]) -> list[None]:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")
        return rows

    async with opened(f"sqlite:///{tmp_path}/test.db") as database:
        with pytest.raises(DatabaseUnavailable):
            await database.write(use_missing_table, None)

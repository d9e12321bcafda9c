"""A service's database (SQLite or PostgreSQL): `write`, `read` and `look_up` are awaited, and work in groups.

A store function is a plain function over a list: `operation(connection, rows) -> results`, one result a row. Callers
await one row each; a thread takes everything that waits, runs each operation once over its rows in one transaction,
and only then are the callers woken. So one fsync serves hundreds of requests, and SQL is always bulk.
"""

import asyncio
import contextlib
import importlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import sqlalchemy
import structlog
from pydantic_core import to_json
from sqlalchemy import Column, DateTime, Engine, Integer, MetaData, Table, TypeDecorator, create_engine, event
from sqlalchemy.engine import URL, Connection, Dialect, make_url
from sqlalchemy.exc import SQLAlchemyError

from shared.observability import metrics
from shared.persistence.batcher import GroupCommit, Operation, Result, Row, discard_if_stale
from shared.persistence.failures import DatabaseUnavailable, translated

LOCK_TIMEOUT_SECONDS = 5.0
"""How long SQLite waits for another process's lock before it says that it is locked."""

PROBE_SECONDS = 3.0
"""After this time without a commit one is tried, to know whether the database can still be written."""

PROBE_TIMEOUT_SECONDS = LOCK_TIMEOUT_SECONDS + 1
"""After this time without an answer the service is not ready; a call under way goes on waiting."""

ANSWER_SECONDS = 30.0
"""After this time without an answer the connections to the database server are cut: a proxy may have lost the query.

Far longer than any statement of ours takes; a lock that somebody holds for a migration may take longer.
"""

PROBE_PAUSE_SECONDS = 0.5
"""How soon the next probe follows one that has failed."""

SERVER_TIMEOUTS: dict[str, int] = {
    "connect_timeout": 5,  # seconds, as the next two
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
"""libpq's: how soon a database server that has vanished without a word (a cut network) is noticed."""

_TRANSACTION_ACTIVE = 1  # libpq's PQTRANS_ACTIVE: a command is under way

_SCHEMA_LOCK = 0x0DDE12A11  # any constant: replicas that start together create the tables one after the other

logger = structlog.get_logger(__name__)


_probe_metadata = MetaData()
write_probe = Table(
    "write_probe",
    _probe_metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("probes", Integer, nullable=False),
)
"""One row that is written now and then: a database that can be read may still refuse to be written."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, also where the database (SQLite) keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


class Database:
    """One service's tables. `start` returns at once; until the database answers, calls raise `DatabaseUnavailable`."""

    def __init__(self, url: str, metadata: MetaData, *, name: str) -> None:
        self._url = _with_driver(make_url(url))
        self._metadata = metadata
        self._name = name
        self.engine = _engine(self._url)
        self._writer = GroupCommit(self.engine.execution_options(writes=True), self._on_commit)
        self._reader = GroupCommit(self.engine, _nobody_listens)
        self._looker = GroupCommit(self.engine, _nobody_listens, in_loop=not self.is_shared)
        self._problem: str | None = "not opened yet"
        self._created = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._connections: WeakSet[Any] = WeakSet()
        if self.is_shared:
            event.listen(self.engine, "connect", lambda connection, _record: self._connections.add(connection))
        self.after_commit: list[Callable[[Sequence[Any]], None]] = []
        """Called in the event loop after each transaction of `write`, with what `tell_after_commit` was given in it."""

    @property
    def is_shared(self) -> bool:
        """Whether replicas of the service may use the same tables at the same time (PostgreSQL)."""
        return self._url.get_backend_name() != "sqlite"

    def crowd_of(self, operation: Operation[Any, Any]) -> int:
        """How many rows of `operation` were in the last transaction, or are in the one under way or wait for it."""
        return self._writer.rows_of(operation)

    async def write(self, operation: Operation[Row, Result], row: Row, *, patience_seconds: float = 0) -> Result:
        """Run `operation` over this row and its neighbours; returns this row's result once it is durable.

        For `patience_seconds` it may wait for neighbours. Raises `DatabaseUnavailable` if nothing was written, its
        subclass `CommitUnknown` if that can't be said, or what the operation raised for this row alone. The operation
        may run more than once over a row, and then `is_repeated`.
        """
        self._expect_tables()
        result: Result = await self._writer.submit(operation, row, patience_seconds)
        return result

    async def read(self, operation: Operation[Row, Result], row: Row) -> Result:
        """Like `write`, in a transaction that only reads."""
        self._expect_tables()
        result: Result = await self._reader.submit(operation, row)
        return result

    async def look_up(self, operation: Operation[Row, Result], row: Row) -> Result:
        """Like `read`, for what is found by its key in no time.

        From SQLite the event loop reads it, which takes less than the way to a thread and back: no lock keeps out a
        reader there (WAL).
        """
        self._expect_tables()
        result: Result = await self._looker.submit(operation, row)
        return result

    def expect_writable(self) -> None:
        """Before an effect that can't be undone: raises `DatabaseUnavailable` if it could not be recorded now."""
        if problem := self.problem():
            raise DatabaseUnavailable(f"{self._name}: {problem}")

    def _expect_tables(self) -> None:
        if not self._created.is_set():
            raise DatabaseUnavailable(f"{self._name}: {self._problem}")

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """A transaction that stays open, and keeps its row locks, while its holder awaits other things."""
        self._expect_tables()
        try:
            connection = await asyncio.to_thread(self.engine.connect)
        except SQLAlchemyError as error:
            raise translated(error) from error
        try:
            yield Transaction(connection)
            await asyncio.to_thread(connection.commit)
        except SQLAlchemyError as error:
            await asyncio.to_thread(discard_if_stale, connection, error)
            raise translated(error) from error
        finally:
            await asyncio.to_thread(connection.close)

    def _on_commit(self, rows: int, news: Sequence[Any]) -> None:
        metrics.commits.labels(self._name).inc()
        metrics.rows_committed.labels(self._name).inc(rows)
        for listener in self.after_commit:
            listener(news)

    async def start(self) -> None:
        self._writer.start()
        self._reader.start()
        self._looker.start()
        self._watching = asyncio.create_task(self._watch(), name=f"{self._name} database")
        with contextlib.suppress(TimeoutError):  # the usual case: the tables are there before anything asks
            await asyncio.wait_for(self._created.wait(), 1.0)

    async def stop(self) -> None:
        """Finish what is waiting, then close. Later calls raise `DatabaseUnavailable`."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._writer.stop()
        await self._reader.stop()
        await self._looker.stop()
        self.engine.dispose()

    def problem(self) -> str | None:
        """Why the database cannot be written now, or None."""
        problem = self._problem or self._writer.failure
        return f"database: {problem}" if problem else None

    async def _watch(self) -> None:
        """Create the tables as soon as the database answers, then go on asking whether it can be written."""
        loop = asyncio.get_running_loop()
        while True:
            self._cut_silent_connections()
            try:
                if not self._created.is_set():
                    await self._writer.submit(self._create, None)
                    self._created.set()
                elif loop.time() >= self._writer.succeeded_at + PROBE_SECONDS:
                    await self._probe()
                self._problem = None
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                if self._problem != str(error):
                    logger.warning("database unavailable", database=self._name, error=str(error))
                self._problem = str(error)
            await asyncio.sleep(PROBE_PAUSE_SECONDS if self.problem() else PROBE_SECONDS)

    def _cut_silent_connections(self) -> None:
        """The threads that wait for an answer are told that the connection broke."""
        if max(each.works_for_seconds for each in (self._writer, self._reader, self._looker)) > ANSWER_SECONDS:
            logger.warning("database does not answer; its connections are cut", database=self._name)
            for connection in list(self._connections):
                _cut(connection)

    async def _probe(self) -> None:
        try:
            await asyncio.wait_for(self._writer.submit(_write_probe, None), PROBE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {PROBE_TIMEOUT_SECONDS:g} s") from None

    def _create(self, connection: Connection, rows: list[None]) -> list[None]:
        if self.is_shared:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        _probe_metadata.create_all(connection)
        self._metadata.create_all(connection)
        self._check_columns(connection)
        connection.execute(insert_new(connection, write_probe), {"id": 1, "probes": 0})
        return _write_probe(connection, rows)

    def _check_columns(self, connection: Connection) -> None:
        """Tables are created, never changed: those of another version are told apart here, not by a failing order."""
        inspector = sqlalchemy.inspect(connection)
        for table in self._metadata.sorted_tables:
            missing = set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}
            if missing:
                raise DatabaseUnavailable(
                    f"table {table.name} has no column {', '.join(sorted(missing))}: another version made it; "
                    "use another database, or migrate this one"
                )


def _write_probe(connection: Connection, rows: list[None]) -> list[None]:
    connection.execute(write_probe.update().values(probes=write_probe.c.probes + 1))
    return rows


class Transaction:
    """What `Database.transaction` hands out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """`function(connection, *arguments)` on a thread."""
        return await asyncio.to_thread(function, self._connection, *arguments)


def insert_new(connection: Connection, table: Table) -> Any:
    """An insert that passes over the rows whose key is there already."""
    return _insert_new(connection.dialect.name, table)


@cache
def _insert_new(dialect: str, table: Table) -> Any:
    return insert_into(dialect, table).on_conflict_do_nothing()


def insert_into(dialect: str, table: Table) -> Any:
    """An insert in the database's own dialect, which knows what to do about a key that is there already."""
    # The dialect of the other database is not imported: it would make each start longer.
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


def _with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _nobody_listens(rows: int, news: Sequence[Any]) -> None:
    """What is read is committed without anybody being told."""


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        waits = {name: value for name, value in SERVER_TIMEOUTS.items() if name not in url.query}
        engine = create_engine(url, pool_pre_ping=True, pool_timeout=5, json_serializer=_json, connect_args=waits)
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    shared = {"timeout": LOCK_TIMEOUT_SECONDS, "check_same_thread": False}
    engine = create_engine(url, json_serializer=_json, connect_args=shared)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _json(value: Any) -> str:
    """What a JSON column keeps; takes pydantic's models as they are."""
    return to_json(value).decode()


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """Behind a pooler such as PgBouncer, each transaction may meet another server process: nothing is prepared there.

    A pooler is known by the process id that it gives at the start, which is not the server's.
    """
    connection.autocommit = True
    server_pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    connection.autocommit = False
    if connection.info.backend_pid != server_pid:
        connection.prepare_threshold = None


def _cut(connection: Any) -> None:
    """Shut the socket under a psycopg connection that waits for an answer. Its owner, in another thread, closes it."""
    with contextlib.suppress(Exception):  # closed meanwhile
        if connection.pgconn.transaction_status == _TRANSACTION_ACTIVE:
            with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a 202 is a promise: each commit is on disk before it is told


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock first: a reader that turns writer half-way would fail with "database is locked".
    writes = connection.get_execution_options().get("writes", False)
    driver: Any = connection.connection.driver_connection  # through SQLAlchemy it would cost as much as a query
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

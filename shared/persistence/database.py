"""A service's database (SQLite or PostgreSQL) behind two awaitables, `write` and `read`, that work in groups.

A store function is a plain function over a list: `operation(connection, rows) -> results`, one result a row. Callers
await one row each; a thread takes everything that waits, runs each operation once over its rows in one transaction,
and only then are the callers woken. So one fsync serves hundreds of requests, and SQL is always bulk.
"""

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import sqlalchemy
import structlog
from pydantic_core import to_json
from sqlalchemy import DateTime, Engine, MetaData, Table, TypeDecorator, create_engine, event
from sqlalchemy.engine import URL, Connection, Dialect, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared import metrics
from shared.messaging.retry import NotReady

MAX_GROUP_ROWS = 500
"""Rows in one transaction at the most. More would make the first of them wait longer and save nothing."""

CROWD_ROWS = 20
"""A transaction costs as much as so many rows. As many as that are worth one, unless more were there last time."""

REST = 2.0
"""Fewer wait until up to so many times as long as the last transaction took have passed: others join them meanwhile.
A row that was alone has nobody to wait for; the busier the machine, the longer that is, and the more share the next."""

LONGEST_REST_SECONDS = 0.03

LOCK_TIMEOUT_SECONDS = 5.0
"""How long SQLite waits for another process's lock before it says that it is locked."""

PING_TIMEOUT_SECONDS = 5.0
"""After this time without an answer the service is not ready; a call under way goes on waiting."""

FAILURE_COUNTS_SECONDS = 3.0
"""For so long after a failed write the service is not ready. Not for longer: perhaps nobody comes and tries again."""

_SCHEMA_LOCK = 0x0DDE12A11  # any constant: replicas that start together create the tables one after the other

_NEWS = "news"

Row = TypeVar("Row")
Result = TypeVar("Result")
Operation = Callable[[Connection, list[Row]], Sequence[Result]]

logger = structlog.get_logger(__name__)


class DatabaseUnavailable(NotReady):
    """The database is away, locked or full: no fault of the row. Nothing was written; try again later."""


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
        self._writer = _Worker(self.engine.execution_options(writes=True), self._on_commit)
        self._reader = _Worker(self.engine, lambda rows, news: None)
        self._problem: str | None = "not opened yet"
        self._created = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self.after_commit: list[Callable[[Sequence[Any]], None]] = []
        """Called in the event loop after each transaction of `write`, with what `tell_after_commit` was given in it."""

    @property
    def is_shared(self) -> bool:
        """Whether replicas of the service may use the same tables at the same time (PostgreSQL)."""
        return self._url.get_backend_name() != "sqlite"

    def crowd_of(self, operation: Operation[Any, Any]) -> int:
        """How many rows of `operation` were in the last transaction, or are in the one under way or wait for it."""
        return self._writer.rows_of(operation)

    async def write(self, operation: Operation[Row, Result], row: Row) -> Result:
        """Run `operation` over this row and its neighbours; returns this row's result once it is durable.

        Raises `DatabaseUnavailable`, or what the operation raised for this row alone.
        """
        return await self._submit(self._writer, operation, row)

    async def read(self, operation: Operation[Row, Result], row: Row) -> Result:
        """Like `write`, in a transaction that only reads."""
        return await self._submit(self._reader, operation, row)

    async def _submit(self, worker: "_Worker", operation: Operation[Row, Result], row: Row) -> Result:
        self._expect_tables()
        result: Result = await worker.submit(operation, row)
        return result

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
            raise _translated(error) from error
        try:
            yield Transaction(connection)
            await asyncio.to_thread(connection.commit)
        except SQLAlchemyError as error:
            raise _translated(error) from error
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
        self.engine.dispose()

    def problem(self) -> str | None:
        """Why the database cannot be used now, or None."""
        problem = self._problem or self._writer.recent_failure()
        return f"database: {problem}" if problem else None

    async def _watch(self) -> None:
        """Create the tables as soon as the database answers, then go on asking whether it still does."""
        while True:
            try:
                if not self._created.is_set():
                    await self._writer.submit(self._create, None)
                    self._created.set()
                else:
                    await self._ping()
                self._problem = None
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                if self._problem != str(error):
                    logger.warning("database unavailable", database=self._name, error=str(error))
                self._problem = str(error)
            await asyncio.sleep(0.5 if self._problem else 2.0)

    async def _ping(self) -> None:
        try:
            await asyncio.wait_for(self._reader.submit(_ping, None), PING_TIMEOUT_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {PING_TIMEOUT_SECONDS:g} s") from None

    def _create(self, connection: Connection, rows: list[None]) -> list[None]:
        if self.is_shared:
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
        self._metadata.create_all(connection)
        self._check_columns(connection)
        return rows

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


def _ping(connection: Connection, rows: list[None]) -> list[None]:
    connection.execute(sqlalchemy.select(1))
    return rows


class Transaction:
    """What `Database.transaction` hands out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """`function(connection, *arguments)` on a thread."""
        return await asyncio.to_thread(function, self._connection, *arguments)


def tell_after_commit(connection: Connection, news: Any) -> None:
    """Give it to those in `Database.after_commit` once this transaction is committed. A rollback forgets it."""
    connection.info.setdefault(_NEWS, []).append(news)


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


_Waiting = tuple[Operation[Any, Any], Any, "asyncio.Future[Any]"]


def rest_seconds(rows: int, took_seconds: float) -> float:
    """How long to let others come together after work on so many rows: up to `REST` times as long as it took."""
    return min(LONGEST_REST_SECONDS, REST * (1 - 1 / rows) * took_seconds)


class _Worker:
    """One thread that takes everything that waits and runs it in one transaction.

    A thread and a queue of our own: with an executor each transaction's way there and back takes three times as long.
    """

    def __init__(self, engine: Engine, on_commit: Callable[[int, Sequence[Any]], None]) -> None:
        self._engine = engine
        self._on_commit = on_commit
        self._waiting: list[_Waiting] = []
        self._group: list[_Waiting] = []
        self._groups: SimpleQueue[list[_Waiting] | None] = SimpleQueue()
        self._news: list[Any] = []
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop
        self._is_open = self._is_working = self._stopping = False
        self._began_at = self._rests_until = 0.0
        self._turn: asyncio.TimerHandle | None = None
        self._turn_at = 0.0
        self._ended = asyncio.Event()
        self._failure, self._failed_at = "", 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()  # once: on Python 3.11 each look for it is a system call
        self._is_open = True
        Thread(target=self._serve, name="database", daemon=True).start()

    def recent_failure(self) -> str | None:
        """Why the database failed last, if that was just now."""
        is_recent = bool(self._failure) and self._loop.time() < self._failed_at + FAILURE_COUNTS_SECONDS
        return self._failure if is_recent else None

    def rows_of(self, operation: Operation[Any, Any]) -> int:
        """In the last group, or the one under way, and among those that wait for the next."""
        return sum(each is operation for each, _, _ in (*self._group, *self._waiting))

    def submit(self, operation: Operation[Any, Any], row: Any) -> "asyncio.Future[Any]":
        if not self._is_open:
            raise DatabaseUnavailable("the database is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((operation, row, future))
        self._start_in_time()
        return future

    async def stop(self) -> None:
        """Run what waits, wake its callers, then end."""
        self._stopping = True
        if self._is_open:
            self._start_in_time()
            await self._ended.wait()

    def _start_in_time(self) -> None:
        """At once, if it has rested or a crowd waits; of a crowd that writes over and over, once all of it is back."""
        if self._is_working:
            return  # it looks for itself afterwards
        is_crowd = len(self._waiting) >= max(CROWD_ROWS, len(self._group))
        now = self._loop.time()
        at = now if is_crowd or self._stopping else max(now, self._rests_until)
        if self._turn is not None and self._turn_at > at:
            self._turn.cancel()
            self._turn = None
        if self._turn is None:
            # Also at once means: after all that the event loop has at hand, which may bring more.
            self._turn, self._turn_at = self._loop.call_at(at, self._start), at

    def _start(self) -> None:
        self._turn = None
        if self._waiting:
            self._group, self._waiting = self._waiting[:MAX_GROUP_ROWS], self._waiting[MAX_GROUP_ROWS:]
            self._is_working, self._began_at = True, self._loop.time()
            self._groups.put(self._group)
        else:  # stopping
            self._is_open = False
            self._groups.put(None)
            self._ended.set()

    def _serve(self) -> None:
        """The thread."""
        while (group := self._groups.get()) is not None:
            outcomes = self._execute(group)
            self._loop.call_soon_threadsafe(self._end, outcomes)
        if self._connection is not None:
            self._connection.close()

    def _end(self, outcomes: list[Any]) -> None:
        self._is_working, ended_at = False, self._loop.time()
        self._rests_until = ended_at + rest_seconds(len(self._group), ended_at - self._began_at)
        self._note(outcomes)
        for (_, _, future), outcome in zip(self._group, outcomes, strict=True):
            _resolve(future, outcome)
        if self._waiting or self._stopping:
            self._start_in_time()

    def _note(self, outcomes: list[Any]) -> None:
        written = sum(not isinstance(outcome, Exception) for outcome in outcomes)
        news, self._news = self._news, []
        if written:
            self._on_commit(written, news)
        failure = outcomes[-1]
        self._failure = str(failure) if isinstance(failure, DatabaseUnavailable) else ""
        self._failed_at = self._loop.time()

    def _execute(self, group: list[_Waiting]) -> list[Any]:
        """A result or an exception for each row. If the transaction fails, its rows are tried one by one."""
        try:
            return self._transaction(group)
        except Exception as error:  # noqa: BLE001 - whatever a store function raises belongs to its callers
            failure = _translated(error)
            if len(group) == 1:
                return [failure]
        return self._one_by_one(group)

    def _one_by_one(self, group: list[_Waiting]) -> list[Any]:
        outcomes: list[Any] = []
        for waiting in group:
            # Once the database itself has failed for a single row, each further row would only wait to fail too.
            if outcomes and isinstance(outcomes[-1], DatabaseUnavailable):
                outcomes.append(outcomes[-1])
            else:
                outcomes += self._execute([waiting])
        return outcomes

    def _transaction(self, group: list[_Waiting]) -> list[Any]:
        rows_of: dict[Operation[Any, Any], list[Any]] = {}
        for operation, row, _ in group:
            rows_of.setdefault(operation, []).append(row)
        with self._begin() as connection:
            news = connection.info[_NEWS] = []  # of this transaction alone
            results = {operation: iter(operation(connection, rows)) for operation, rows in rows_of.items()}
        self._news += news
        return [next(results[operation]) for operation, _, _ in group]

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Connection]:
        """A transaction on the connection of the last one, if that went well: the pool costs as much as a query.

        Where the database is another process, it may have been started again meanwhile: there the pool has a look.
        """
        connection, self._connection = self._connection or self._engine.connect(), None
        try:
            with connection.begin():
                yield connection
            if connection.dialect.name == "sqlite":
                self._connection = connection
        finally:
            if self._connection is None:
                connection.close()


def _resolve(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _translated(error: Exception) -> Exception:
    """`DatabaseUnavailable` for what is the database's fault; everything else is the row's, as it is."""
    is_away = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
    if is_away or (isinstance(error, DBAPIError) and error.connection_invalidated):
        unavailable = DatabaseUnavailable(str(getattr(error, "orig", None) or error).strip().splitlines()[0])
        unavailable.__cause__ = error
        return unavailable
    return error


def _with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        waits = {"connect_timeout": 5}
        return create_engine(url, pool_pre_ping=True, pool_timeout=5, json_serializer=_json, connect_args=waits)
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


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a 202 is a promise: each commit is on disk before it is told


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock first: a reader that turns writer half-way would fail with "database is locked".
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

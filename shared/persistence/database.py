"""A service's database (SQLite or PostgreSQL): `write`, `read` and `look_up` are awaited, and run in batches.

An operation is a plain function over a list: `operation(connection, rows) -> results`, one result for each row.
Callers await one row each. A batcher runs each operation once over all rows that wait, in one transaction, and wakes
the callers when it is committed. So one fsync serves hundreds of requests, and all SQL works on many rows.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy
import structlog
from sqlalchemy import MetaData
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from shared.observability import metrics
from shared.persistence import backends, schema
from shared.persistence.batcher import Batcher, Operation, Result, Row
from shared.persistence.bulk import BulkInsert, skip_existing
from shared.persistence.failures import DatabaseUnavailable, translated
from shared.persistence.schema import write_probe
from shared.persistence.transactions import Transactions

PROBE_SECONDS = 3.0
"""After this time without a change one is tried, to know whether the database can still be written."""

PROBE_TIMEOUT_SECONDS = backends.LOCK_TIMEOUT_SECONDS + 1
"""After this time without an answer the service is not ready; a call under way goes on waiting."""

PROBE_PAUSE_SECONDS = 0.5
"""How soon the next probe follows one that has failed."""

ANSWER_SECONDS = 30.0
"""After this time without an answer the connections to the database server are cut: a proxy may have lost the query.

Far longer than any statement of ours takes; a lock that somebody holds for a migration may take longer.
"""

logger = structlog.get_logger(__name__)


class Database:
    """One service's tables. `start` returns at once; until they are there, calls raise `DatabaseUnavailable`."""

    def __init__(self, url: str, metadata: MetaData, *, name: str) -> None:
        self._metadata = metadata
        self._name = name
        self._backend = backends.backend_of(url)
        self._transactions = [Transactions(self._backend, writes=writes) for writes in (False, False, True)]
        reads, look_ups, self._held = self._transactions  # the last for `transaction`, whose users take turns
        self._reader = Batcher(reads.run)
        self._looker = Batcher(look_ups.run, in_loop=not self.is_shared)
        self._batchers = [self._reader, self._looker]
        self._writers: dict[Operation[Any, Any] | None, Batcher] = {}
        self._problem: str | None = "not opened yet"
        self._write_failure: str | None = None
        self._written_at = 0.0
        self._has_tables = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self.on_commit: list[Callable[[Sequence[Any]], None]] = []
        """Called in the event loop with what `hand_over` was given in transactions of `write` that are committed."""

    @property
    def engine(self) -> sqlalchemy.Engine:
        return self._backend.engine

    @property
    def is_shared(self) -> bool:
        """Whether replicas of the service may use the same tables at the same time (PostgreSQL)."""
        return self._backend.is_shared

    def load_of(self, operation: Operation[Any, Any]) -> int:
        """How many rows of `operation` were just written, are being written, or wait for it."""
        return self._writer(operation).rows_of(operation)

    async def write(self, operation: Operation[Row, Result], row: Row, *, linger_seconds: float = 0) -> Result:
        """Run `operation` over this row and others; returns this row's result once it is durable.

        The row may wait `linger_seconds` for others. Raises `DatabaseUnavailable` if nothing was written, its
        subclass `CommitUnknown` if that can't be said, or what the operation raised for this row alone. The operation
        may run more than once over a row, and then `is_repeated`.
        """
        self._expect_tables()
        result: Result = await self._writer(operation).submit(operation, row, linger_seconds)
        return result

    async def read(self, operation: Operation[Row, Result], row: Row) -> Result:
        """Like `write`, in a transaction that only reads."""
        self._expect_tables()
        result: Result = await self._reader.submit(operation, row)
        return result

    async def look_up(self, operation: Operation[Row, Result], row: Row) -> Result:
        """Like `read`, for rows that are found by their key: on SQLite the event loop itself reads them.

        That takes less time than handing them to a thread, and no lock stops a reader there (WAL).
        """
        self._expect_tables()
        result: Result = await self._looker.submit(operation, row)
        return result

    @contextlib.asynccontextmanager
    async def transaction(
        self, begin: Callable[[Connection], Result], end: Callable[[Connection], object]
    ) -> AsyncIterator[Result]:
        """A transaction that stays open, and keeps its row locks, while the block awaits other things.

        `begin`, whose result the block gets, and `end`, which is followed by COMMIT, are called on a thread. If the
        block fails, nothing was written.
        """
        self._expect_tables()
        held = contextlib.ExitStack()
        connection: Connection

        def enter() -> Result:
            nonlocal connection
            connection = held.enter_context(self._held.begin())
            return begin(connection)

        def leave() -> None:
            with held:
                end(connection)

        try:
            yield await asyncio.to_thread(enter)
            await asyncio.to_thread(leave)
        except BaseException as error:
            await asyncio.to_thread(held.__exit__, type(error), error, error.__traceback__)
            if isinstance(error, Exception) and (other := translated(error)) is not error:
                raise other from error
            raise

    async def start(self) -> None:
        for batcher in self._batchers:
            batcher.start()
        self._watching = asyncio.create_task(self._watch(), name=f"{self._name} database")
        with contextlib.suppress(TimeoutError):  # usually the tables are there before anything needs them
            async with asyncio.timeout(1.0):
                await self._has_tables.wait()

    async def stop(self) -> None:
        """Finish what is waiting, then close. Later calls raise `DatabaseUnavailable`."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for batcher in self._batchers:
            await batcher.stop()
        self._has_tables.clear()
        self._problem = "closed"
        for transactions in self._transactions:
            transactions.close()
        self.engine.dispose()

    def problem(self) -> str | None:
        """Why the database cannot be written now, or None."""
        problem = self._problem or self._write_failure
        return f"database: {problem}" if problem else None

    def expect_writable(self) -> None:
        """Before an effect that can't be undone: raises `DatabaseUnavailable` if it could not be recorded now."""
        if problem := self.problem():
            raise DatabaseUnavailable(f"{self._name}: {problem}")

    def _writer(self, operation: Operation[Any, Any] | None) -> Batcher:
        """PostgreSQL writes for several operations at the same time, each with batches of its own."""
        key = operation if self.is_shared else None
        if key not in self._writers:
            transactions = Transactions(self._backend, writes=True)
            self._transactions.append(transactions)
            self._writers[key] = batcher = Batcher(transactions.run, partial(self._after_write, transactions))
            self._batchers.append(batcher)
            batcher.start()
        return self._writers[key]

    def _expect_tables(self) -> None:
        if not self._has_tables.is_set():
            raise DatabaseUnavailable(f"{self._name}: {self._problem}")

    def _after_write(self, transactions: Transactions, outcomes: list[Any]) -> None:
        rows = sum(not isinstance(outcome, Exception) for outcome in outcomes)
        if rows:
            metrics.commits.labels(self._name).inc()
            metrics.rows_committed.labels(self._name).inc(rows)
            handed_over = transactions.take_handed_over()
            for listener in self.on_commit:
                listener(handed_over)
        failure = outcomes[-1]
        if isinstance(failure, DatabaseUnavailable):
            self._write_failure = str(failure)
        elif transactions.has_written:
            self._write_failure = None
            self._written_at = asyncio.get_running_loop().time()

    async def _watch(self) -> None:
        """Wait for the database and its tables, then go on asking whether it can be written."""
        loop = asyncio.get_running_loop()
        while True:
            self._cut_silent_connections()
            try:
                if not self._has_tables.is_set():
                    await self._writer(None).submit(self._find_tables, None)
                    self._has_tables.set()
                elif self._write_failure or loop.time() >= self._written_at + PROBE_SECONDS:
                    await self._probe()
                self._problem = None
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                if self._problem != str(error):
                    logger.warning("database.unavailable", database=self._name, error=str(error))
                self._problem = str(error)
            await asyncio.sleep(PROBE_PAUSE_SECONDS if self.problem() else PROBE_SECONDS)

    def _cut_silent_connections(self) -> None:
        if max(batcher.busy_seconds for batcher in self._batchers) > ANSWER_SECONDS:
            logger.warning(
                "database.connections_cut", database=self._name, reason=f"no answer for {ANSWER_SECONDS:g} s"
            )
            self._backend.cut_connections()

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                await self._writer(None).submit(_write_probe, None)
        except TimeoutError:
            raise DatabaseUnavailable(f"no answer within {PROBE_TIMEOUT_SECONDS:g} s") from None

    def _find_tables(self, connection: Connection, rows: list[None]) -> list[None]:
        """Tables are made and altered by migrations alone. What is missing is said here, before a request fails."""
        if missing := schema.missing(connection, self._metadata):
            raise DatabaseUnavailable(f"{missing}; {schema.HOW_TO_MEND}")
        BulkInsert(write_probe, skip_existing).run(connection, [{"id": 1, "probes": 0}])
        return _write_probe(connection, rows)


def _write_probe(connection: Connection, rows: list[None]) -> list[None]:
    connection.execute(write_probe.update().values(probes=write_probe.c.probes + 1))
    return rows

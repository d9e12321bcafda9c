"""The group commit: whoever waits shares one transaction, and is woken once it is durable.

The busier the machine, the more rows share one: a thread works on a group while the next one comes together.
"""

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.messaging.retry import NotReady

MAX_GROUP_ROWS = 500
"""Rows in one transaction at the most. More would make the first of them wait longer and save nothing."""

CROWD_ROWS = 20
"""A transaction costs as much as so many rows. As many as that are worth one, unless more were there last time."""

REST = 2.0
"""Fewer wait until up to so many times as long as the last transaction took have passed: others join them meanwhile.
A row that was alone has nobody to wait for; the busier the machine, the longer that is, and the more share the next."""

LONGEST_REST_SECONDS = 0.03

FAILURE_COUNTS_SECONDS = 3.0
"""For so long after a failed write the service is not ready. Not for longer: perhaps nobody comes and tries again."""

_NEWS = "news"

Row = TypeVar("Row")
Result = TypeVar("Result")
Operation = Callable[[Connection, list[Row]], Sequence[Result]]


class DatabaseUnavailable(NotReady):
    """The database is away, locked or full: no fault of the row. Nothing was written; try again later."""


def tell_after_commit(connection: Connection, news: Any) -> None:
    """Give it to those in `Database.after_commit` once this transaction is committed. A rollback forgets it."""
    connection.info.setdefault(_NEWS, []).append(news)


_Waiting = tuple[Operation[Any, Any], Any, "asyncio.Future[Any]"]


def rest_seconds(rows: int, took_seconds: float) -> float:
    """How long to let others come together after work on so many rows: up to `REST` times as long as it took."""
    return min(LONGEST_REST_SECONDS, REST * (1 - 1 / rows) * took_seconds)


class GroupCommit:
    """Takes everything that waits and runs it in one transaction: on a thread, or `in_loop`, which has to be quick.

    A thread and a queue of our own: with an executor each transaction's way there and back takes three times as long.
    """

    def __init__(
        self, engine: Engine, on_commit: Callable[[int, Sequence[Any]], None], *, in_loop: bool = False
    ) -> None:
        self._engine = engine
        self._on_commit = on_commit
        self._in_loop = in_loop
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
        self._due_at = math.inf  # the moment until which all that wait can wait
        self._ended = asyncio.Event()
        self._failure, self._failed_at = "", 0.0

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()  # once: on Python 3.11 each look for it is a system call
        self._is_open = True
        if not self._in_loop:
            Thread(target=self._serve, name="database", daemon=True).start()

    def recent_failure(self) -> str | None:
        """Why the database failed last, if that was just now."""
        is_recent = bool(self._failure) and self._loop.time() < self._failed_at + FAILURE_COUNTS_SECONDS
        return self._failure if is_recent else None

    def rows_of(self, operation: Operation[Any, Any]) -> int:
        """In the last group, or the one under way, and among those that wait for the next."""
        return sum(each is operation for each, _, _ in (*self._group, *self._waiting))

    def submit(self, operation: Operation[Any, Any], row: Any, patience_seconds: float = 0) -> "asyncio.Future[Any]":
        """It waits for company for `patience_seconds`, unless somebody more urgent or a crowd comes."""
        if not self._is_open:
            raise DatabaseUnavailable("the database is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((operation, row, future))
        self._due_at = min(self._due_at, self._loop.time() + patience_seconds)
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
        at = now if is_crowd or self._stopping else max(now, self._rests_until, self._due_at)
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
            self._due_at = 0.0 if self._waiting else math.inf
            self._is_working, self._began_at = True, self._loop.time()
            if self._in_loop:
                self._end(self._execute(self._group))
            else:
                self._groups.put(self._group)
        else:  # stopping
            self._is_open = False
            self._disconnect() if self._in_loop else self._groups.put(None)
            self._ended.set()

    def _serve(self) -> None:
        """The thread."""
        while (group := self._groups.get()) is not None:
            outcomes = self._execute(group)
            self._loop.call_soon_threadsafe(self._end, outcomes)
        self._disconnect()

    def _disconnect(self) -> None:
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
            failure = translated(error)
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


def translated(error: Exception) -> Exception:
    """`DatabaseUnavailable` for what is the database's fault; everything else is the row's, as it is."""
    is_away = isinstance(error, OperationalError | InterfaceError | PoolTimeout | sqlite3.OperationalError)
    if is_away or (isinstance(error, DBAPIError) and error.connection_invalidated):
        unavailable = DatabaseUnavailable(str(getattr(error, "orig", None) or error).strip().splitlines()[0])
        unavailable.__cause__ = error
        return unavailable
    return error

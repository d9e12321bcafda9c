"""The group commit: whoever waits shares one transaction, and is woken once it is durable.

The busier the machine, the more rows share one: a thread works on a group while the next one comes together.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.persistence.failures import (
    CommitUnknown,
    DatabaseUnavailable,
    commit_unknown,
    is_conflict,
    is_lost,
    is_unavailable,
    translated,
)

MAX_GROUP_ROWS = 500
"""Rows in one transaction at the most. More would make the first of them wait longer and save nothing."""

CROWD_ROWS = 20
"""A transaction costs as much as so many rows. As many as that are worth one, unless more were there last time."""

REST = 2.0
"""Fewer wait until up to so many times as long as the last transaction took have passed: others join them meanwhile.
A row that was alone has nobody to wait for; the busier the machine, the longer that is, and the more share the next."""

LONGEST_REST_SECONDS = 0.03

MAX_CONFLICTS = 5
"""So often a transaction that collided with another one is run again at once."""

ASK_SECONDS = 3.0
"""For so long after a commit without an answer the rows are looked for. Their callers wait meanwhile."""

ASK_PAUSE_SECONDS = 0.1

_NEWS = "news"
_IS_REPEATED = "is_repeated"

Row = TypeVar("Row")
Result = TypeVar("Result")
Operation = Callable[[Connection, list[Row]], Sequence[Result]]


def tell_after_commit(connection: Connection, news: Any) -> None:
    """Give it to those in `Database.after_commit` once this transaction is committed. A rollback forgets it."""
    connection.info.setdefault(_NEWS, []).append(news)


def is_repeated(connection: Connection) -> bool:
    """Whether the same rows were in a transaction whose commit was left without an answer: they may be there."""
    return bool(connection.info.get(_IS_REPEATED))


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
        self.succeeded_at = -math.inf
        """When something was committed last, in the event loop's time."""
        self.failure: str | None = None
        """Why the database failed the last time; None once it has worked again."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()  # once: on Python 3.11 each look for it is a system call
        self._is_open = True
        if not self._in_loop:
            Thread(target=self._serve, name="database", daemon=True).start()

    @property
    def works_for_seconds(self) -> float:
        """How long it has been at work on the group that it has now; 0 without one."""
        return self._loop.time() - self._began_at if self._is_working else 0.0

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
            self.succeeded_at = self._loop.time()
            self._on_commit(written, news)
        failure = outcomes[-1]
        self.failure = str(failure) if isinstance(failure, DatabaseUnavailable) else None

    def _execute(self, group: list[_Waiting]) -> list[Any]:
        """A result or an exception for each row."""
        outcomes = self._try(group, is_repeated=False)
        if any(isinstance(outcome, CommitUnknown) for outcome in outcomes):
            return self._ask(group, outcomes)
        return outcomes

    def _ask(self, group: list[_Waiting], outcomes: list[Any]) -> list[Any]:
        """Run again what was left without an answer, until there is one: operations find by key what is there."""
        deadline = time.monotonic() + ASK_SECONDS
        while True:
            unknown = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, CommitUnknown)]
            if not unknown or time.monotonic() > deadline:
                return outcomes
            time.sleep(ASK_PAUSE_SECONDS)
            answers = self._try([group[number] for number in unknown], is_repeated=True)
            for number, answer in zip(unknown, answers, strict=True):
                # That nothing was written this time says nothing of the time before.
                outcomes[number] = commit_unknown(answer) if isinstance(answer, DatabaseUnavailable) else answer

    def _try(self, group: list[_Waiting], *, is_repeated: bool) -> list[Any]:
        """A result or an exception for each row. If the transaction fails, its rows are tried one by one."""
        try:
            return self._transaction_without_conflict(group, is_repeated)
        except CommitUnknown as unknown:
            return [unknown] * len(group)
        except Exception as error:  # noqa: BLE001 - whatever a store function raises belongs to its callers
            failure = translated(error)
            if len(group) == 1:
                return [failure]
        return self._one_by_one(group, is_repeated)

    def _one_by_one(self, group: list[_Waiting], is_repeated: bool) -> list[Any]:
        outcomes: list[Any] = []
        for waiting in group:
            # Once the database itself has failed for a single row, each further row would only wait to fail too.
            if outcomes and isinstance(outcomes[-1], DatabaseUnavailable):
                outcomes.append(DatabaseUnavailable(str(outcomes[-1])))
            else:
                outcomes += self._try([waiting], is_repeated=is_repeated)
        return outcomes

    def _transaction_without_conflict(self, group: list[_Waiting], is_repeated: bool) -> list[Any]:
        """Run again at once where another transaction was in the way. Raises what the last try raised."""
        for _ in range(MAX_CONFLICTS):
            try:
                return self._transaction(group, is_repeated)
            except DBAPIError as error:
                if not is_conflict(error):
                    raise
        return self._transaction(group, is_repeated)

    def _transaction(self, group: list[_Waiting], is_repeated: bool) -> list[Any]:
        rows_of: dict[Operation[Any, Any], list[Any]] = {}
        for operation, row, _ in group:
            rows_of.setdefault(operation, []).append(row)
        with self._begin() as connection:
            news = connection.info[_NEWS] = []  # of this transaction alone
            connection.info[_IS_REPEATED] = is_repeated
            results = {operation: iter(operation(connection, rows)) for operation, rows in rows_of.items()}
        self._news += news
        return [next(results[operation]) for operation, _, _ in group]

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Connection]:
        """A transaction on the connection of the last one, if that went well: the pool costs as much as a query.

        Where the database is another process, it may have been started again meanwhile: there the pool has a look.
        Raises `CommitUnknown` where the answer to the commit was lost.
        """
        connection, self._connection = self._connection or self._engine.connect(), None
        is_committing = False
        try:
            with connection.begin():
                yield connection
                is_committing = True
            if connection.dialect.name == "sqlite":
                self._connection = connection
        except Exception as error:
            discard_if_stale(connection, error)
            if is_committing and is_lost(error):
                raise commit_unknown(error) from error
            raise
        finally:
            if self._connection is None:
                connection.close()


def discard_if_stale(connection: Connection, error: Exception) -> None:
    """After a failure of the database server, give up this connection and those in the pool.

    They may lead to a server that is alive and no longer the right one: after a failover the old primary only reads.
    """
    if connection.dialect.name != "sqlite" and is_unavailable(error) and not is_conflict(error):
        connection.invalidate()
        connection.engine.dispose()


def _resolve(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

"""The batcher: rows that arrive close together share one transaction, and each caller awaits the result of its own row.

A batch starts at once if enough rows wait for it. Otherwise its rows linger, so that others can join them:
a row as long as its caller allows, and every row for a moment after a batch of several rows (`linger_seconds`).
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from shared.persistence.failures import DatabaseUnavailable

MAX_ROWS = 500
"""In one transaction. More rows would make the first of them wait longer and save nothing."""

ENOUGH_ROWS = 20
"""A transaction costs as much as about 20 rows, so 20 waiting rows need not linger."""

MAX_LINGER_SECONDS = 0.03

LINGER_FACTOR = 2.0
"""The linger after a batch, in units of the time that the batch took: the busier the machine, the more rows share."""

RECENT_SECONDS = 0.1
"""For so long after its linger, a batch counts as part of a load that goes on."""

Row = TypeVar("Row")
Result = TypeVar("Result")
Operation = Callable[[Connection, list[Row]], Sequence[Result]]


class Entry(NamedTuple):
    """One row that waits for its transaction."""

    operation: Operation[Any, Any]
    row: Any
    future: "asyncio.Future[Any]"


Batch = list[Entry]


def linger_seconds(rows: int, took_seconds: float, longest_seconds: float = MAX_LINGER_SECONDS) -> float:
    """How long to wait for more work after `rows` rows took `took_seconds`: not at all after a single row."""
    return min(longest_seconds, LINGER_FACTOR * (1 - 1 / rows) * took_seconds)


class Batcher:
    """Collects rows, has `run` execute each batch on a thread, and resolves the rows' futures with what it returns.

    `run` returns a result or an exception for each row. `in_loop`: the event loop calls it, which must be quick.
    `on_end` is called in the event loop with the outcomes of each batch, before the callers get them.
    """

    def __init__(
        self,
        run: Callable[[Batch], list[Any]],
        on_end: Callable[[list[Any]], None] = lambda outcomes: None,
        *,
        in_loop: bool = False,
        max_rows: int = MAX_ROWS,
        linger_seconds: float = MAX_LINGER_SECONDS,
    ) -> None:
        self._run = run
        self._on_end = on_end
        self._in_loop = in_loop
        self._max_rows = max_rows
        self._linger_seconds = linger_seconds
        self._loop: asyncio.AbstractEventLoop
        self._is_open = self._is_stopping = False
        self._waiting: Batch = []
        self._batch: Batch = []  # the one that runs, or the last one
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()  # for the thread
        self._began_at: float | None = None  # while a batch runs
        self._lingers_until = 0.0  # after the last batch
        self._due_at = math.inf  # the callers of all waiting rows allow them to linger until then
        self._timer: asyncio.TimerHandle | None = None  # calls `_start_batch`
        self._starts_at = 0.0  # when it does; uvloop's handles do not tell
        self._stopped = asyncio.Event()

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        if not self._in_loop:
            # A thread and a queue of its own: the way through an executor takes three times as long.
            Thread(target=self._serve, name="database", daemon=True).start()

    async def stop(self) -> None:
        """Run what waits, then end. Rows that are submitted later are refused."""
        self._is_stopping = True
        if self._is_open:
            self._schedule()
            await self._stopped.wait()

    @property
    def busy_seconds(self) -> float:
        """How long the batch that runs has been running; 0 if none runs."""
        return 0.0 if self._began_at is None else self._loop.time() - self._began_at

    def rows_of(self, operation: Operation[Any, Any]) -> int:
        """Rows of this operation that wait, or are in the batch that runs or ran last, unless that is long ago."""
        is_recent = self._began_at is not None or self._loop.time() < self._lingers_until + RECENT_SECONDS
        batch = self._batch if is_recent else []
        return sum(entry.operation == operation for entry in (*batch, *self._waiting))

    def submit(self, operation: Operation[Any, Any], row: Any, linger_seconds: float = 0) -> "asyncio.Future[Any]":
        """Add a row, which may linger so long. The future gets its result."""
        if not self._is_open:
            raise DatabaseUnavailable("the database is closed")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(Entry(operation, row, future))
        self._due_at = min(self._due_at, self._loop.time() + linger_seconds)
        self._schedule()
        return future

    def _schedule(self) -> None:
        """Set the timer that starts the next batch."""
        if self._began_at is not None:
            return  # `_end` calls this again
        # Callers that write over and over return after a batch: all of them are to share the next one.
        is_enough = len(self._waiting) >= max(ENOUGH_ROWS, len(self._batch))
        now = self._loop.time()
        at = now if is_enough or self._is_stopping else max(now, self._lingers_until, self._due_at)
        if self._timer is not None and self._starts_at > at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            # A timer also for a batch that starts at once: callbacks that are ready now may submit more rows.
            self._timer, self._starts_at = self._loop.call_at(at, self._start_batch), at

    def _start_batch(self) -> None:
        self._timer = None
        if not self._waiting:
            self._close()
            return
        self._batch, self._waiting = self._waiting[: self._max_rows], self._waiting[self._max_rows :]
        self._due_at = 0.0 if self._waiting else math.inf
        self._began_at = self._loop.time()
        if self._in_loop:
            self._end(self._run(self._batch))
        else:
            self._batches.put(self._batch)

    def _serve(self) -> None:
        """The thread."""
        while (batch := self._batches.get()) is not None:
            self._loop.call_soon_threadsafe(self._end, self._run(batch))

    def _end(self, outcomes: list[Any]) -> None:
        took_seconds, self._began_at = self.busy_seconds, None
        self._lingers_until = self._loop.time() + linger_seconds(len(self._batch), took_seconds, self._linger_seconds)
        self._on_end(outcomes)
        for entry, outcome in zip(self._batch, outcomes, strict=True):
            _resolve(entry.future, outcome)
        if self._waiting or self._is_stopping:
            self._schedule()

    def _close(self) -> None:
        """Asked to stop, and nothing waits any more."""
        self._is_open = False
        self._batches.put(None)
        self._stopped.set()


def _resolve(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

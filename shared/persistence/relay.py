"""The outbox relay: publishes what the outbox holds, and deletes a row only once the broker has its message.

Rows come to it from the commit that wrote them, and from the table whenever it can't know of all that way: after a
start, behind a backlog, after a failure, and once in a while in any case. A crash publishes the rows again that are
not deleted yet: at least once, never not at all.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection

from shared.messaging.publisher import Publisher, Unroutable
from shared.observability import metrics
from shared.persistence.batcher import Operation, rest_seconds
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.outbox import Outbox, OutboxRow

BATCH_ROWS = 100
"""Few enough that whoever shares the event loop does not notice."""

MAX_KNOWN_ROWS = 1000
"""So many rows are kept in memory. Those beyond are read from the table when their turn comes."""

FORGET_SECONDS = 0.1
"""For so long published rows stay in the table: others join them, and one commit deletes them all."""

POLL_SECONDS = 1.0
"""How often the relay reads the table in any case: the guarantee behind what the commits tell it."""

MAX_BACKOFF_SECONDS = 5.0

CROWD_ROWS = 20
"""So many rows in a transaction that the relay stands back for are a crowd."""

STAND_BACK_SECONDS = 0.15
"""Between two batches: so much is published all the same that nobody behind the queue has to wait."""

logger = structlog.get_logger(__name__)


class OutboxRelay:
    """Publishes in batches, for as long as it runs.

    One that stands back for an operation leaves the processor to a crowd that calls it: people wait for their answers,
    and events are safe where they are. The outbox may grow meanwhile; it is emptied afterwards.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        publisher: Publisher,
        *,
        stands_back_for: Operation[Any, Any] | None = None,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._publisher = publisher
        self._stands_back_for = stands_back_for
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop_asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._measure_at = self._read_at = 0.0
        # Rows to be published; whether there are no others in the table; those that the broker has or has returned.
        self._known: list[OutboxRow] = []
        self._knows_all = False
        self._confirmed: list[int] = []
        self._returned: list[int] = []
        self._published: set[int] = set()  # of rows in PostgreSQL: those that the broker has and that are not deleted

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._database.after_commit.append(self._hear)
        self._task = self._loop.create_task(self._run(), name="outbox relay")

    async def stop(self) -> None:
        """Publish what is still waiting, if the broker is there; what is left is published after the next start."""
        self._stop_asked.set()
        self._wake.set()
        if self._task is not None:
            if not self._publisher.is_connected:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        return None

    def _hear(self, news: Sequence[list[OutboxRow]]) -> None:
        """Called after each commit, with the rows that it has added."""
        for rows in news:
            self._knows_all = self._knows_all and len(self._known) + len(rows) <= MAX_KNOWN_ROWS
            if self._knows_all:
                self._known += rows
            self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            began_at = self._loop.time()
            try:
                waiting, confirmed = await self._relay_batch()
                failures = failures + 1 if confirmed < waiting else 0
            except DatabaseUnavailable:
                waiting, failures = 0, failures + 1
            except Exception:
                logger.exception("outbox relay failed; it goes on")
                waiting, failures = 0, failures + 1
            if self._stop_asked.is_set() and (failures or not waiting):
                return
            await self._wait(waiting, failures, self._loop.time() - began_at)

    async def _wait(self, waiting: int, failures: int, took_seconds: float) -> None:
        if failures:
            await self._pause(min(MAX_BACKOFF_SECONDS, 0.1 * 2**failures))
        elif self._stands_back():
            await self._pause(STAND_BACK_SECONDS)
        elif waiting < BATCH_ROWS:
            if waiting > 1:
                await self._pause(rest_seconds(waiting, took_seconds))
            await self._pause_until_woken()

    def _stands_back(self) -> bool:
        operation = self._stands_back_for
        return operation is not None and self._database.crowd_of(operation) >= CROWD_ROWS

    async def _relay_batch(self) -> tuple[int, int]:
        """Publish the next rows; returns how many there were, and how many arrived."""
        await self._measure()
        if not self._publisher.is_connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._publisher.connected(), POLL_SECONDS)
            return 0, 0
        if self._database.is_shared:
            return await self._relay_locked()
        if self._must_read():
            await self._read_on()
        rows = self._known[:BATCH_ROWS]
        confirmed, returned = await self._publish(rows)
        del self._known[: len(rows)]
        self._confirmed += confirmed
        self._returned += returned
        self._knows_all = self._knows_all and len(confirmed) == len(rows)
        if rows:
            self._read_at = min(self._read_at, self._loop.time() + FORGET_SECONDS)
        return len(rows), len(confirmed)

    def _must_read(self) -> bool:
        is_behind = not self._knows_all and not self._known
        return is_behind or self._stop_asked.is_set() or self._loop.time() >= self._read_at

    async def _read_on(self) -> None:
        """Delete the rows that have arrived, and read the next ones, in one transaction between those of the others.

        Whatever is committed before it is read, and whatever is committed after it is heard of.
        """
        settled = self._confirmed, self._returned
        self._known, self._confirmed, self._returned, self._knows_all = [], [], [], True
        try:
            rows = await self._database.write(self._settle_and_read, settled)
        except BaseException:
            # What the broker has is not published again while it can't be deleted.
            self._confirmed, self._returned = settled[0] + self._confirmed, settled[1] + self._returned
            self._knows_all = False
            raise
        read = {row.id for row in rows}
        self._knows_all = self._knows_all and len(rows) < BATCH_ROWS
        later = [row for row in self._known if row.id not in read] if self._knows_all else []
        self._known = rows + later
        self._read_at = self._loop.time() + POLL_SECONDS

    def _settle_and_read(
        self, connection: Connection, batches: list[tuple[list[int], list[int]]]
    ) -> list[list[OutboxRow]]:
        self._settle(connection, batches)
        return [self._outbox.waiting(connection, BATCH_ROWS) for _ in batches]

    async def _relay_locked(self) -> tuple[int, int]:
        """The same while holding the rows' locks, so that the relays of all replicas share the work."""
        async with self._database.transaction() as transaction:
            rows = await transaction.run(partial(self._outbox.waiting, locked=True), BATCH_ROWS)
            # A transaction before this one may have failed after its rows were published.
            confirmed, returned = await self._publish([row for row in rows if row.id not in self._published])
            self._published.update(confirmed)
            confirmed = [row.id for row in rows if row.id in self._published]
            await transaction.run(self._settle, [(confirmed, returned)])
        self._published.clear()
        self._read_at = self._loop.time() + POLL_SECONDS
        return len(rows), len(confirmed)

    async def _publish(self, rows: list[OutboxRow]) -> tuple[list[int], list[int]]:
        """The ids of the rows that the broker has confirmed, and of those that it has returned."""
        errors = await self._publisher.publish_all([row.message for row in rows])
        outcomes = list(zip(rows, errors, strict=True))
        confirmed = [row.id for row, error in outcomes if error is None]
        returned = [row.id for row, error in outcomes if isinstance(error, Unroutable)]
        first_error = next((error for error in errors if error is not None), None)
        if first_error is not None:
            logger.warning("events not published; they stay in the outbox",
                           count=len(rows) - len(confirmed), first_error=str(first_error))  # fmt: skip
        return confirmed, returned

    async def _measure(self) -> None:
        if self._loop.time() >= self._measure_at:
            self._measure_at = self._loop.time() + POLL_SECONDS
            count = await self._database.read(self._count, None)
            metrics.outbox_pending.set(count - len(self._confirmed))

    def _count(self, connection: Connection, rows: list[None]) -> list[int]:
        return [self._outbox.count(connection)] * len(rows)

    def _settle(self, connection: Connection, batches: list[tuple[list[int], list[int]]]) -> list[None]:
        for confirmed, returned in batches:
            if confirmed:
                self._outbox.forget(connection, confirmed)
            if returned:
                self._outbox.put_behind(connection, returned)
        return [None for _ in batches]

    async def _pause_until_woken(self) -> None:
        alarm = self._loop.call_at(self._read_at, self._wake.set)
        await self._wake.wait()
        alarm.cancel()

    async def _pause(self, seconds: float) -> None:
        """Not cut short by commits: they would make it try again at once what has just failed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_asked.wait(), seconds)

"""The outbox relay: publishes the rows of the outbox, and deletes a row only once the broker has confirmed its message.

After a crash the rows that are not deleted yet are published again: at least once, never not at all.

With a stream, a row is deleted only once its copy is there, too. The copy is a message of its own: were the stream
bound to the exchange, the broker would no longer return an event that no service's queue takes. A stream that does not
work delays nothing: a row that lacks only its copy is put behind the others, and is not published again.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from shared.contract import is_taken
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.publisher import Publisher, PublishError, Unroutable
from shared.messaging.stream import NotCopied, StreamWriter
from shared.observability import metrics
from shared.persistence.backlog import BATCH_ROWS, POLL_SECONDS, Claim, OwnBacklog, SharedBacklog
from shared.persistence.batcher import Operation, linger_seconds
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.outbox import Outbox, OutboxRow

MAX_BACKOFF_SECONDS = 5.0
NONE, ONE, ANY = 0, 1, 1000
"""As how many failures in a row a batch may count: the pause after it grows with them."""

THROTTLE_ROWS = 20
"""As many rows of the operation that throttles the relay, in one transaction, are a load."""

THROTTLE_SECONDS = 0.15
"""The pause between two batches of a throttled relay: short enough that no consumer runs out of work."""

logger = structlog.get_logger(__name__)


class OutboxRelay:
    """Publishes in batches, for as long as it runs.

    `throttled_for`: while there is a load of this operation, the relay leaves the processor to it. Its callers wait for
    their answers, and events are safe in the outbox, which may grow meanwhile.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        publisher: Publisher,
        *,
        throttled_for: Operation[Any, Any] | None = None,
        stream: StreamWriter | None = None,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._publisher = publisher
        self._throttled_for = throttled_for
        self._stream = stream
        self._published: set[int] = set()  # rows that lack only their copy
        self._copied: set[int] = set()  # rows that were copied and not published yet
        self._backlog = (SharedBacklog if database.is_shared else OwnBacklog)(database, outbox)
        self._wake = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._measure_at = 0.0

    async def start(self) -> None:
        self._database.on_commit.append(self._on_commit)
        self._task = asyncio.create_task(self._run(), name="outbox relay")

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

    def _on_commit(self, added: Any) -> None:
        if added:
            self._backlog.add(added)
            self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            began_at = asyncio.get_running_loop().time()
            rows, most_failures = await self._relay_batch()
            failures = min(failures + 1, most_failures)
            if self._stop_asked.is_set() and (failures or not rows):
                return
            await self._wait(rows, failures, asyncio.get_running_loop().time() - began_at)

    async def _relay_batch(self) -> tuple[int, int]:
        """Publish the next rows; returns how many there were, and as how many failures in a row this may count."""
        try:
            await self._measure()
            if not await self._is_connected():
                return 0, NONE
            async with self._backlog.claim(is_last=self._stop_asked.is_set()) as claim:
                most_failures = await self._publish(claim)
            return len(claim.rows), most_failures
        except DatabaseUnavailable:
            return 0, ANY  # `Database` reports it
        except Exception:
            logger.exception("outbox.relay_failed")
            return 0, ANY

    async def _measure(self) -> None:
        if (now := asyncio.get_running_loop().time()) >= self._measure_at:
            self._measure_at = now + POLL_SECONDS
            count = await self._database.read(self._count, None)
            metrics.outbox_pending.set(count - self._backlog.undeleted)

    def _count(self, connection: Connection, rows: list[None]) -> list[int]:
        return [self._outbox.count(connection)] * len(rows)

    async def _is_connected(self) -> bool:
        """Waits a while for the connection."""
        if not self._publisher.is_connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._publisher.connected()
        return self._publisher.is_connected

    async def _publish(self, claim: Claim) -> int:
        """As how many failures in a row it may count."""
        rows = [row for row in claim.rows if row.id not in claim.confirmed]
        new = [row for row in rows if row.id not in self._published]
        if self._stream is None:
            errors = await self._publish_all(rows)
        else:
            errors = await self._publish_and_copy(self._stream, rows, new)
        claim.confirmed += [row.id for row, error in zip(rows, errors, strict=True) if error is None]
        behind = (Unroutable, NotCopied)
        claim.returned += [row.id for row, error in zip(rows, errors, strict=True) if isinstance(error, behind)]
        if failed := [error for error in errors if not isinstance(error, NotCopied | None)]:
            logger.warning("outbox.publish_refused", count=len(failed), first_error=str(failed[0]))
            return ANY
        return NONE if new or not rows else ONE  # rows that lack only their copy delay others by a short pause alone

    async def _publish_all(self, rows: Sequence[OutboxRow]) -> list[PublishError | BrokerUnavailable | None]:
        """For each row the error. An event that no service takes, so far, is returned, and that is no error."""
        errors = await self._publisher.publish_all([row.message for row in rows])
        return [
            None if isinstance(error, Unroutable) and not is_taken(row.message.routing_key) else error
            for row, error in zip(rows, errors, strict=True)
        ]

    async def _publish_and_copy(
        self, stream: StreamWriter, rows: Sequence[OutboxRow], new: Sequence[OutboxRow]
    ) -> list[PublishError | BrokerUnavailable | None]:
        """For each row the error: of publishing it or, if that worked, `NotCopied` until the stream has it as well."""
        uncopied = [row for row in rows if row.id not in self._copied]
        published, are_copied = await asyncio.gather(
            self._publish_all(new), stream.write([row.message for row in uncopied])
        )
        errors = {row.id: error for row, error in zip(new, published, strict=True) if error is not None}
        if are_copied:
            self._copied.update(row.id for row in uncopied)
        missing = {row.id: NotCopied() for row in rows if row.id not in self._copied}
        outcomes = [errors.get(row.id) or missing.get(row.id) for row in rows]
        done = {row.id for row, outcome in zip(rows, outcomes, strict=True) if outcome is None}
        self._published = (self._published | missing.keys()) - errors.keys() - done
        self._copied -= done
        return outcomes

    async def _wait(self, rows: int, failures: int, took_seconds: float) -> None:
        if failures:
            await self._pause(min(MAX_BACKOFF_SECONDS, 0.1 * 2**failures))
        elif self._throttled_for is not None and self._database.load_of(self._throttled_for) >= THROTTLE_ROWS:
            await self._pause(THROTTLE_SECONDS)
        elif rows < BATCH_ROWS:
            if rows > 1:
                await self._pause(linger_seconds(rows, took_seconds))
            alarm = asyncio.get_running_loop().call_at(self._backlog.read_at, self._wake.set)
            await self._wake.wait()
            alarm.cancel()

    async def _pause(self, seconds: float) -> None:
        """A commit does not end it, only `stop` does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_asked.wait()

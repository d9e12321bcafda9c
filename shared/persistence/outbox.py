"""The outbox: events written in the same commit as the facts they tell of, and the relay that publishes them.

The relay deletes a row only once the broker has confirmed its message and has not returned it. A crash in between
publishes it again: at least once, never not at all.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.types import BigInteger

from shared import metrics
from shared.events import Event, encode
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher, Unroutable
from shared.persistence.database import Database, DatabaseUnavailable, Operation

BATCH_ROWS = 100
"""Few enough that whoever shares the event loop does not notice."""

POLL_SECONDS = 1.0
"""How often the relay looks without having been woken: the guarantee behind the wake-up."""

MAX_BACKOFF_SECONDS = 5.0
REST, LONGEST_REST_SECONDS = 2.0, 0.04
"""After a batch that was not full the relay rests so many times as long as it took: others join the next meanwhile."""

CROWD_ROWS = 20
"""So many rows in a transaction that the relay stands back for are a crowd."""

STAND_BACK_SECONDS = 0.15
"""Between two batches: so much is published all the same that nobody behind the queue has to wait."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    id: int
    message: Message


class Outbox:
    """The table, in the metadata of the service that owns it, and its only SQL."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "outbox",
            metadata,
            Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
            Column("event_id", String, nullable=False),
            Column("exchange", String, nullable=False),
            Column("type", String, nullable=False),
            Column("source", String, nullable=False),
            Column("timestamp", BigInteger, nullable=False),
            Column("body", LargeBinary, nullable=False),
            Column("returns", Integer, nullable=False, server_default="0"),
        )
        Index("outbox_order", self.table.c.returns, self.table.c.id)
        columns = self.table.c
        ids: BindParameter[Any] = bindparam("ids", expanding=True)
        # Built once: building a statement costs twice as much as running it.
        self._insert = insert(self.table)
        self._next = select(self.table).order_by(columns.returns, columns.id).limit(bindparam("limit"))
        self._next_locked = self._next.with_for_update(skip_locked=True)
        self._forget = delete(self.table).where(columns.id.in_(ids))
        self._put_behind = update(self.table).where(columns.id.in_(ids)).values(returns=columns.returns + 1)
        self._has_news = False

    def add(self, connection: Connection, events: Sequence[Event]) -> None:
        """Write the events within the caller's transaction. Raises `Oversize` before anything is inserted."""
        if events:
            connection.execute(self._insert, [_values(event) for event in events])
            self._has_news = True

    def take_news(self) -> bool:
        """Whether events were added, here, since this was asked last."""
        has_news, self._has_news = self._has_news, False
        return has_news

    def waiting(self, connection: Connection, limit: int, *, locked: bool = False) -> list[OutboxRow]:
        """The next rows, oldest first; those the broker has returned come after the others, so they block nobody."""
        query = self._next_locked if locked else self._next
        return [
            OutboxRow(
                row.id,
                Message(exchange=row.exchange, routing_key=row.type, body=row.body, message_id=row.event_id,
                        type=row.type, app_id=row.source, timestamp=row.timestamp),
            )
            for row in connection.execute(query, {"limit": limit})
        ]  # fmt: skip

    def forget(self, connection: Connection, ids: list[int]) -> None:
        connection.execute(self._forget, {"ids": ids})

    def put_behind(self, connection: Connection, ids: list[int]) -> None:
        if ids:
            connection.execute(self._put_behind, {"ids": ids})

    def count(self, connection: Connection) -> int:
        return connection.execute(select(func.count()).select_from(self.table)).scalar_one()


def _values(event: Event) -> dict[str, object]:
    return {
        "event_id": event.id,
        "exchange": event.EXCHANGE,
        "type": event.type,
        "source": event.source,
        "timestamp": int(event.time.timestamp()),
        "body": encode(event),
    }


class OutboxRelay:
    """Publishes what the outbox holds, in batches, for as long as it runs.

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
        self._measure_at = 0.0

    async def start(self) -> None:
        self._database.after_commit.append(self._look_for_news)
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

    def _look_for_news(self) -> None:
        if self._outbox.take_news():
            self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            began_at = asyncio.get_running_loop().time()
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
            if failures:
                await self._pause(min(MAX_BACKOFF_SECONDS, 0.1 * 2**failures))
            elif self._stands_back():
                await self._pause(STAND_BACK_SECONDS)
            elif waiting < BATCH_ROWS:
                took_seconds = asyncio.get_running_loop().time() - began_at
                await self._pause(min(LONGEST_REST_SECONDS, REST * took_seconds))
                await self._pause_until_woken()

    def _stands_back(self) -> bool:
        operation = self._stands_back_for
        return operation is not None and self._database.crowd_of(operation) >= CROWD_ROWS

    async def _relay_batch(self) -> tuple[int, int]:
        """Publish the next rows and delete those that arrived; returns how many there were, and how many arrived."""
        await self._measure()
        if not self._publisher.is_connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._publisher.connected(), POLL_SECONDS)
            return 0, 0
        if self._database.is_shared:
            return await self._relay_locked()
        rows = await self._database.read(self._read_waiting, BATCH_ROWS)
        confirmed, returned = await self._publish(rows)
        if rows:
            await self._database.write(self._settle, (confirmed, returned))
        return len(rows), len(confirmed)

    async def _relay_locked(self) -> tuple[int, int]:
        """The same while holding the rows' locks, so that the relays of all replicas share the work."""
        async with self._database.transaction() as transaction:
            rows = await transaction.run(partial(self._outbox.waiting, locked=True), BATCH_ROWS)
            confirmed, returned = await self._publish(rows)
            if rows:
                await transaction.run(self._settle, [(confirmed, returned)])
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
        now = asyncio.get_running_loop().time()
        if now >= self._measure_at:
            self._measure_at = now + POLL_SECONDS
            metrics.outbox_pending.set(await self._database.read(self._count, None))

    def _count(self, connection: Connection, rows: list[None]) -> list[int]:
        return [self._outbox.count(connection)] * len(rows)

    def _read_waiting(self, connection: Connection, limits: list[int]) -> list[list[OutboxRow]]:
        return [self._outbox.waiting(connection, limit) for limit in limits]

    def _settle(self, connection: Connection, batches: list[tuple[list[int], list[int]]]) -> list[None]:
        for confirmed, returned in batches:
            self._outbox.forget(connection, confirmed)
            self._outbox.put_behind(connection, returned)
        return [None for _ in batches]

    async def _pause_until_woken(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Not cut short by commits: they would make it try again at once what has just failed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_asked.wait(), seconds)

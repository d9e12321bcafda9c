"""The live timeline of one order as server-sent events, from any replica.

Entries are sent in the order of their arrival, which later events can't change, so `Last-Event-ID` tells what a client
has seen. `GET /orders/{id}` shows them in the order in which they happened.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from pydantic_core import to_json

from order_service import store
from order_service.orders import Order, TimelineEntry
from shared.ids import canonical
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable

POLL_SECONDS = 1.0
"""The longest delay until a change that another replica wrote is seen."""

KEEP_ALIVE_SECONDS = 15.0


class Changes:
    """Wakes this process's streams of an order when the order has changed, so that they need not wait for a poll."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)

    def notify(self, order_id: str) -> None:
        for changed in self._watchers.get(order_id, ()):
            changed.set()

    @contextlib.contextmanager
    def watch(self, order_id: str) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        self._watchers[order_id].add(changed)
        try:
            yield changed
        finally:
            self._watchers[order_id].discard(changed)
            if not self._watchers[order_id]:
                del self._watchers[order_id]


class LiveTimelines:
    """Streams of timeline entries. They end at a final status, or when the service stops: then a client reconnects."""

    def __init__(self, database: Database, changes: Changes, is_stopping: Callable[[], bool]) -> None:
        self._database = database
        self._changes = changes
        self._is_stopping = is_stopping

    async def stream(self, order: Order, last_event_id: str | None) -> AsyncIterator[bytes]:
        """The entries after the entry `last_event_id` (all, if there is no such entry), then each new entry."""
        sent = _up_to(order.timeline, last_event_id)
        quiet_seconds = 0.0
        with self._changes.watch(order.order_id) as changed:
            while True:
                changed.clear()
                order = await self._reread(order)
                new = [entry for entry in order.timeline if entry.event_id not in sent]
                for entry in new:
                    sent.add(entry.event_id)
                    yield _server_sent_event(entry)
                if order.status.is_final or self._is_stopping():
                    return
                quiet_seconds = 0.0 if new else quiet_seconds + POLL_SECONDS
                if quiet_seconds >= KEEP_ALIVE_SECONDS:
                    quiet_seconds = 0.0
                    yield b": still here\n\n"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await changed.wait()

    async def _reread(self, order: Order) -> Order:
        try:
            return await self._database.read(store.get, order.order_id) or order
        except DatabaseUnavailable:
            return order  # the stream goes on, and the next poll tries again


def has_more(order: Order, last_event_id: str | None) -> bool:
    """Whether more entries follow, or can follow, the last one that a client saw."""
    return not order.status.is_final or len(_up_to(order.timeline, last_event_id)) < len(order.timeline)


def _up_to(timeline: Iterable[TimelineEntry], last_event_id: str | None) -> set[str]:
    ids = [entry.event_id for entry in timeline]
    seen = last_event_id if last_event_id in ids else canonical(last_event_id or "")
    return set(ids[: ids.index(seen) + 1]) if seen in ids else set()


def entry_json(entry: TimelineEntry) -> dict[str, object]:
    """An entry as clients see it, here and in `GET /orders/{id}`: its type, its time, and its details."""
    return {"type": entry.type, "at": entry.at, **entry.detail}


def _server_sent_event(entry: TimelineEntry) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (entry.event_id.encode(), to_json(entry_json(entry)))

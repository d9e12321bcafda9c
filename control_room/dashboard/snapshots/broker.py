"""The queues, as RabbitMQ's management API counts them.

Reads totals without statistics: totals are cheap and at most a second old, statistics are sampled every five seconds.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from control_room.dashboard.snapshots.snapshot import BROKER_DOWN, BROKER_SILENT, NOT_LOOKED, QueueView
from shared import contract
from shared.management import Management, ManagementError
from shared.topology import dead_queue

SILENT_AFTER_SECONDS = 4.0
"""A broker that takes longer to answer is reported as silent."""
CONSUMERS_EVERY, EXCHANGES_EVERY = 2, 5
"""Every second look reads the consumers, every fifth the exchanges: they change less often than messages."""


class WatchedBroker:
    """Keeps a view of each queue, without its rate, which its consumers count."""

    def __init__(self, management: Management) -> None:
        self.queues: Mapping[str, QueueView] = {name: QueueView(name) for name in contract.queues()}
        self.exchanges = frozenset(contract.exchanges())
        self._management = management
        self._asked_at: float | None = None
        self._why = NOT_LOOKED
        self._looks = 0
        self._consumers: Counter[str] = Counter()

    @property
    def problem(self) -> str:
        """Why the views are out of date; empty if they are not."""
        silent = self._asked_at is not None and time.monotonic() - self._asked_at > SILENT_AFTER_SECONDS
        return self._why or (BROKER_SILENT if silent else "")

    async def look(self) -> None:
        """Read once; what goes wrong is in `problem`."""
        self._asked_at = time.monotonic()
        try:
            found = await self._find("queues", disable_stats="true", enable_queue_totals="true")
            if self._looks % CONSUMERS_EVERY == 0:
                consumers = await self._find("consumers", columns="queue.name")
                self._consumers = Counter(consumer["queue"]["name"] for consumer in consumers)
            if self._looks % EXCHANGES_EVERY == 0:
                self.exchanges = frozenset(each["name"] for each in await self._find("exchanges", columns="name"))
        except ManagementError as error:
            self._why = _why(error)
            return
        finally:
            self._asked_at = None
        self._looks += 1
        self.queues, self._why = views(found, self._consumers), ""

    async def _find(self, what: str, **query: str) -> list[dict[str, Any]]:
        return await self._management.find(what, self._management.vhost, **query) or []


def _why(error: ManagementError) -> str:
    match error.__cause__:
        case httpx.ConnectError():
            return BROKER_DOWN
        case httpx.TransportError():
            return BROKER_SILENT
    return str(error)


def views(found: Iterable[Mapping[str, Any]], consumers: Mapping[str, int]) -> dict[str, QueueView]:
    """Each queue with its retry queues and dead letters, from the management API's lists of queues and consumers."""
    counts = {queue["name"]: queue for queue in found}
    return {name: _view(name, counts, consumers.get(name, 0)) for name in contract.queues()}


def _view(name: str, counts: Mapping[str, Mapping[str, Any]], consumers: int) -> QueueView:
    own = counts.get(name, {})
    retrying = sum(_messages(counts[each]) for each in counts if each.startswith(f"{name}.retry."))
    return QueueView(
        name,
        exists=name in counts,
        waiting=own.get("messages_ready", 0),
        in_work=own.get("messages_unacknowledged", 0),
        consumers=consumers,
        retrying=retrying,
        dead=_messages(counts.get(dead_queue(name), {})),
    )


def _messages(queue: Mapping[str, Any]) -> int:
    count: int = queue.get("messages_ready", 0) + queue.get("messages_unacknowledged", 0)
    return count

"""The queues, as RabbitMQ's management API counts them: a call or two for all of them.

Totals without statistics: those are a second old at the most, and cost little; the API's statistics are sampled every
five seconds.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from control_room.dashboard.snapshots.snapshot import QueueView
from shared import contract
from shared.management import Management, ManagementError
from shared.topology import dead_queue

SILENT_AFTER_SECONDS = 4.0
"""A look that takes longer has found a broker that does not answer."""
CONSUMERS_EVERY, EXCHANGES_EVERY = 2, 5
"""Looks: they come and go less often than messages."""


class WatchedBroker:
    """Keeps a view of each queue, without its speed: that is counted by its consumers."""

    def __init__(self, management: Management) -> None:
        self.queues: Mapping[str, QueueView] = {name: QueueView(name) for name in contract.queues()}
        self.exchanges = frozenset(contract.exchanges())
        self._management = management
        self._asked_at: float | None = None
        self._why = "not looked yet"
        self._looks = 0
        self._consumers: Counter[str] = Counter()

    @property
    def problem(self) -> str:
        """Why the views are not of now; empty if they are."""
        silent = self._asked_at is not None and time.monotonic() - self._asked_at > SILENT_AFTER_SECONDS
        return self._why or ("it does not answer" if silent else "")

    async def look(self) -> None:
        """Look once; what goes wrong is in `problem`."""
        self._asked_at = time.monotonic()
        try:
            found = await self._find("queues", disable_stats="true", enable_queue_totals="true")
            if self._looks % CONSUMERS_EVERY == 0:
                consumers = await self._find("consumers", columns="queue.name")
                self._consumers = Counter(consumer["queue"]["name"] for consumer in consumers)
            if self._looks % EXCHANGES_EVERY == 0:
                self.exchanges = frozenset(each["name"] for each in await self._find("exchanges", columns="name"))
        except ManagementError as error:
            self._why = str(error)
            return
        finally:
            self._asked_at = None
        self._looks += 1
        self.queues, self._why = views(found, self._consumers), ""

    async def _find(self, what: str, **query: str) -> list[dict[str, Any]]:
        return await self._management.find(what, self._management.vhost, **query) or []


def views(found: Iterable[Mapping[str, Any]], consumers: Mapping[str, int]) -> dict[str, QueueView]:
    """Each queue of ours with its family, from what the management API says of all queues and consumers."""
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

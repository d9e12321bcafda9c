"""The queues, as RabbitMQ's management API counts them: one call for all of them."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from control_room.observer.picture import QueueView
from shared.management import Management, TopologyError
from shared.topology import dead_queue
from shared.topology.definition import EXCHANGES, SUBSCRIPTIONS

COLUMNS = "name,messages_ready,messages_unacknowledged,consumers"
SILENT_AFTER_SECONDS = 4.0
EXCHANGES_EVERY = 5
"""Looks: an exchange goes missing less often than a queue moves."""


class WatchedBroker:
    """Keeps a view of each queue, without its speed: that is counted by its consumers."""

    def __init__(self, management: Management) -> None:
        self.queues: Mapping[str, QueueView] = {name: QueueView(name) for name in SUBSCRIPTIONS}
        self.exchanges = frozenset(EXCHANGES)
        self._management = management
        self._looked_at = float("-inf")
        self._why = "not looked yet"
        self._looks = 0

    @property
    def problem(self) -> str:
        """Why the views are not of now; empty if they are."""
        silent = time.monotonic() - self._looked_at > SILENT_AFTER_SECONDS
        return self._why or ("it does not answer" if silent else "")

    async def look(self) -> None:
        """Look once; what goes wrong is in `problem`."""
        vhost = self._management.vhost
        try:
            found = await self._management.find("queues", vhost, columns=COLUMNS) or []
            if self._looks % EXCHANGES_EVERY == 0:
                exchanges = await self._management.find("exchanges", vhost, columns="name") or []
                self.exchanges = frozenset(exchange["name"] for exchange in exchanges)
        except TopologyError as error:
            self._why = str(error)
            return
        self._looks += 1
        self.queues, self._why, self._looked_at = views(found), "", time.monotonic()


def views(found: Iterable[Mapping[str, Any]]) -> dict[str, QueueView]:
    """Each queue of ours with its family, from what the management API says of all queues."""
    counts = {queue["name"]: queue for queue in found}
    return {name: _view(name, counts) for name in SUBSCRIPTIONS}


def _view(name: str, counts: Mapping[str, Mapping[str, Any]]) -> QueueView:
    own = counts.get(name, {})
    retrying = sum(_messages(counts[each]) for each in counts if each.startswith(f"{name}.retry."))
    return QueueView(
        name,
        exists=name in counts,
        waiting=own.get("messages_ready", 0),
        in_work=own.get("messages_unacknowledged", 0),
        consumers=own.get("consumers", 0),
        retrying=retrying,
        dead=_messages(counts.get(dead_queue(name), {})),
    )


def _messages(queue: Mapping[str, Any]) -> int:
    count: int = queue.get("messages_ready", 0) + queue.get("messages_unacknowledged", 0)
    return count

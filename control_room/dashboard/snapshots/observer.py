"""Looks at everything, for as long as it runs: every second while somebody watches, else every ten seconds."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import structlog

from control_room.background import running
from control_room.dashboard.pace import Pace
from control_room.dashboard.snapshots.broker import WatchedBroker
from control_room.dashboard.snapshots.services import Counter, WatchedService
from control_room.dashboard.snapshots.snapshot import CHARGE, EMAIL, Point, QueueView, Snapshot
from control_room.operations.addresses import SystemAddresses
from shared.management import Management

HISTORY_POINTS = 900
SETTLED = "order_rail_deliveries_settled_total"
DUPLICATES = "order_rail_duplicate_deliveries_total"
ACCEPTED: Counter = ("order_rail_orders_accepted_total", "", "")

logger = structlog.get_logger(__name__)


class Observer:
    """`snapshot` is the latest, `history` has a point for each, of 15 minutes at the least. Use `watching`."""

    def __init__(self, services: Mapping[str, WatchedService], broker: WatchedBroker, pace: Pace) -> None:
        self.snapshot = Snapshot()
        self.history: deque[Point] = deque(maxlen=HISTORY_POINTS)
        self._services, self._broker, self._pace = services, broker, pace

    def done(self, queue: str) -> int:
        """Deliveries of a queue that were handled for the first time, since its service started."""
        service = self._services[queue.partition(".")[0]]
        return int(service.total((SETTLED, queue, "ack")) - service.total((DUPLICATES, queue, "")))

    async def watch(self) -> None:
        """Look at everything until cancelled: each part in a loop of its own, so that none waits for a frozen one."""
        looks = [service.look for service in self._services.values()]
        async with asyncio.TaskGroup() as group:
            for look in (*looks, self._broker.look, self._take_snapshot):
                group.create_task(self._again_and_again(look))

    async def _take_snapshot(self) -> None:
        broker, services = self._broker, self._services
        self.snapshot = Snapshot(
            at=time.time(),
            services={name: service.view for name, service in services.items()},
            queues={name: self._with_speed(queue) for name, queue in broker.queues.items()},
            exchanges=broker.exchanges,
            broker_problem=broker.problem,
            accepted=services["order_service"].per_second(ACCEPTED),
            paid=self._first_time(CHARGE),
            told=self._first_time(EMAIL),
        )
        self.history.append(self.snapshot.point)

    def _with_speed(self, queue: QueueView) -> QueueView:
        service = self._services[queue.name.partition(".")[0]]
        outcomes = [(SETTLED, queue.name, outcome) for outcome in ("ack", "retry", "deadletter")]
        return replace(queue, per_second=service.per_second(*outcomes))

    def _first_time(self, queue: str) -> float:
        """A second: deliveries handled, without those whose work was found done."""
        service = self._services[queue.partition(".")[0]]
        again = service.per_second((DUPLICATES, queue, ""))
        return max(0.0, service.per_second((SETTLED, queue, "ack")) - again)

    async def _again_and_again(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            began = time.monotonic()
            try:
                await look()
            except Exception:  # one look that fails must not end the observer
                logger.exception("observer.look_failed")
            await self._pace.next_look(began)


@asynccontextmanager
async def watching(addresses: SystemAddresses, pace: Pace) -> AsyncIterator[Observer]:
    """An observer that looks at the system while the block runs."""
    async with httpx.AsyncClient(trust_env=False) as http, Management(addresses) as management:
        services = {name: WatchedService(name, url, http) for name, url in addresses.services.items()}
        observer = Observer(services, WatchedBroker(management), pace)
        async with running(observer.watch(), "observer"):
            yield observer

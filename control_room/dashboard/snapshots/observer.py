"""Reads the whole system for as long as it runs: every second while a page is open, else every ten seconds."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import structlog

from control_room.background import running
from control_room.dashboard.pace import UNWATCHED_SECONDS, Pace
from control_room.dashboard.snapshots.broker import WatchedBroker
from control_room.dashboard.snapshots.drain import seconds_to_drain
from control_room.dashboard.snapshots.services import DUPLICATES, SETTLED, WatchedService
from control_room.dashboard.snapshots.snapshot import QueueView, Snapshot
from control_room.operations.addresses import SystemAddresses
from shared import contract
from shared.contract import ServiceContract, Stage
from shared.management import Management

HISTORY_LENGTH = 900

logger = structlog.get_logger(__name__)


class Observer:
    """`snapshot` is the latest; `history` holds those of the last 15 minutes or more. Use `watching`."""

    def __init__(self, services: Mapping[str, WatchedService], management: Management) -> None:
        self.snapshot = Snapshot()
        self.history: deque[Snapshot] = deque(maxlen=HISTORY_LENGTH)
        self.services, self.management, self._broker = services, management, WatchedBroker(management)
        self.pace = Pace()
        self.on_recovery: Callable[[], None] = lambda: None
        """Called whenever everything runs after something did not."""

    async def watch(self) -> None:
        """Read everything until cancelled, each component in a loop of its own, so that none waits for a frozen one."""
        looks = [service.look for service in self.services.values()]
        async with asyncio.TaskGroup() as group:
            for look in (*looks, self._broker.look, self._take_snapshot):
                group.create_task(self._repeat(look))

    async def _take_snapshot(self) -> None:
        snapshot = Snapshot(
            at=time.time(),
            services={name: service.view for name, service in self.services.items()},
            queues={name: self._with_rate(queue) for name, queue in self._broker.queues.items()},
            exchanges=self._broker.exchanges,
            broker_problem=self._broker.problem,
            rates={stage.label: self._rate(service, stage) for service, stage in contract.stages()},
        )
        self.history.append(snapshot)
        readings = [(each.at, each.backlog) for each in self.history]
        left = seconds_to_drain(readings, snapshot.outgoing)
        since = (self.snapshot.broken_since or snapshot.at) if snapshot.problems else 0.0
        has_recovered = self.snapshot.broken_since and not since
        self.snapshot = self.history[-1] = replace(snapshot, seconds_left=left, broken_since=since)
        if has_recovered:
            self.on_recovery()

    def _with_rate(self, queue: QueueView) -> QueueView:
        outcomes = [(SETTLED, queue.name, outcome) for outcome in ("ack", "retry", "deadletter")]
        return replace(queue, per_second=self._consumer(queue.name).per_second(*outcomes))

    def _rate(self, contract: ServiceContract, stage: Stage) -> float:
        service = self.services[contract.name]
        if not stage.queue:
            return service.per_second((stage.counter, "", ""))
        queue = contract.queue_name(stage.queue)
        return max(0.0, service.per_second((SETTLED, queue, "ack")) - service.per_second((DUPLICATES, queue, "")))

    def _consumer(self, queue: str) -> WatchedService:
        return self.services[contract.service_of(queue).name]

    async def _repeat(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            began = time.monotonic()
            try:
                await look()
            except Exception:  # one failure must not end the observer
                logger.exception("observer.look_failed")
            await self.pace.next_look(began)


@asynccontextmanager
async def watching(addresses: SystemAddresses) -> AsyncIterator[Observer]:
    """An observer that reads the system while the block runs."""
    # httpcore closes a connection that expires while a request is about to use it (issue 1110): these don't expire.
    limits = httpx.Limits(keepalive_expiry=2 * UNWATCHED_SECONDS)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as http, Management(addresses) as management:
        services = {name: WatchedService(name, url, http) for name, url in addresses.services.items()}
        observer = Observer(services, management)
        async with running(observer.watch(), "observer"):
            yield observer

"""One chaos run from beginning to end: start, load and faults, quiet, audit."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import psutil

from control_room.analytics.check import NotComparable, differences
from control_room.analytics.follow import ReplayFailed, replay
from control_room.analytics.store import AnalyticsStore, AnalyticsUnavailable
from control_room.background import running
from control_room.experiments.chaos.containers import Composed, ComposedSystem, ComposeError, containers
from control_room.experiments.chaos.customers import CANCELLATIONS, JOURNAL, SteadyCustomers
from control_room.experiments.chaos.faults import FAULTS, IN_CONTAINERS, Injection
from control_room.experiments.chaos.proxy import proxy_to
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.system import (
    HEARTBEAT_SECONDS,
    SERVICES,
    NoEvidence,
    RunningSystem,
    SystemUnderTest,
)
from control_room.experiments.chaos.watch import look_at_orders, look_at_service
from control_room.experiments.client import connected, repeat
from control_room.launcher import LaunchError
from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.cluster import PrivateCluster
from control_room.launcher.installed import NotInstalledError
from control_room.launcher.system import Broker, launch, private_settings
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditReport
from control_room.operations.roles import CHARGE, ORDERS
from shared.amqp_url import node_urls
from shared.management import ManagementError
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.publisher import PublishError
from shared.settings import delays_variables
from shared.waiting import poll

SYSTEM_SETTINGS = {
    **dict.fromkeys(delays_variables(), "0.5,1,2"),
    "SWEEP_AFTER_SECONDS": "6",
    "GATEWAY_LATENCY_SECONDS": "0.05",
    "CANCEL_WITHIN_SECONDS": "86400",  # whatever the clock of a service says
    "EVENTS_KEPT_HOURS": "1",
}
REPLAYED = "replayed.db"
RECOVERY_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1
ORDERS_SECONDS, SERVICE_SECONDS = 0.5, 1.0
"""Between two looks."""
CALL_TIMEOUT_SECONDS = 5.0
READY_SECONDS = 60.0
FAILED = (
    NoEvidence, ManagementError, BrokerError, ComposeError, BrokerUnavailable, PublishError, NotInstalledError,
    psutil.Error, OSError,
)  # fmt: skip


Inject = Callable[[Injection], Awaitable[None]]
"""Makes a fault happen to the system of a run."""


class Chaos:
    """A run on a started system. Its report, and what customers saw so far, may be shown while it goes on."""

    def __init__(self, report: ChaosReport, system: RunningSystem, directory: Path, inject: Inject) -> None:
        self.report, self._inject_into_system = report, inject
        self.customers = SteadyCustomers(
            system.client.addresses.services[ORDERS.name], report.rate, report.seed, directory, report.seen.orders,
            cancelling=report.cancel_share,
        )  # fmt: skip
        report.cancellations = self.customers.cancellations
        self.began_at = time.monotonic()
        self._system, self._client, self._orders, self._directory = system, system.client, report.seen.orders, directory

    async def run(self) -> None:
        """Load and faults, then quiet, then the audit. Raises OSError, AuditImpossible."""
        self.began_at, self.report.phase = time.monotonic(), "warming up"
        looks = [repeat(partial(look_at_orders, self._client, self._orders), ORDERS_SECONDS)]
        looks += [repeat(partial(self._look_at, service), SERVICE_SECONDS) for service in SERVICES]
        async with AsyncExitStack() as stack:
            for look in looks:
                await stack.enter_async_context(running(look, "chaos watch"))
            await self._load()
            await self._until_quiet()
            self.report.phase = "audit"
            # Kitchen tickets and text messages may come after the status that counts as the order's end.
            audited = await self._client.audit_until_clean(
                self.report.quiet_within_seconds,
                journal=self._directory / JOURNAL,
                cancellations=self._directory / CANCELLATIONS,
            )
            self.report.not_too_late = await self._not_too_late()
            await self._replay(audited)
        self.report.audit = audited.as_json()

    async def _replay(self, audited: AuditReport) -> None:
        """Count all events anew from the stream, if there is one, and compare with the audit."""
        if not self._client.addresses.events_kept_hours:
            return
        store = AnalyticsStore(f"sqlite:///{self._directory / REPLAYED}")
        try:
            store.prepare()
            replayed = await replay(self._client.addresses.rabbitmq_url, store, "first", lambda *_: None)
            self.report.events, self.report.differences = replayed.events, differences(store, audited)
        except (AnalyticsUnavailable, BrokerUnavailable, NotComparable, ReplayFailed) as error:
            self.report.differences = [f"not compared: {error}"]
        finally:
            store.close()

    async def _not_too_late(self) -> list[str]:
        """Orders that can't be cancelled according to the order service, though they were not declined."""
        orders = [await self._client.order(order_id) for order_id in self.report.cancellations.too_late]
        return [order["order_id"] for order in orders if order["status"] != "declined"]

    async def _look_at(self, service: str) -> None:
        await look_at_service(self._client, service, self._system.pid(service), self.report.seen)

    async def _load(self) -> None:
        """Orders until every fault was injected and the load has lasted long enough; returns once each is answered."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.customers.order_until_stopped(), name="customers")
                for injection in self.report.injections:
                    await self._sleep_until(injection.at_seconds)
                    self.report.phase = f"{injection}"
                    await self._inject(injection)
                    self.report.phase = "load"
                await self._sleep_until(self.report.load_seconds)
                self.report.phase = "no more orders; waiting until all are closed"
                self.customers.is_stopped = True
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self.report.load = self.customers.report()

    async def _sleep_until(self, seconds: float) -> None:
        """Until so long after the start."""
        await asyncio.sleep(self.began_at + seconds - time.monotonic())

    async def _inject(self, injection: Injection) -> None:
        """The recovery is measured while the fault still collects evidence."""
        injection.state = "injected"
        async with asyncio.TaskGroup() as group:
            group.create_task(self._measure_recovery(injection), name="recovery")
            try:
                await self._inject_into_system(injection)
            except FAILED as error:
                injection.problem = str(error) or type(error).__name__
            finally:
                with injection.active():  # it may have failed before it began
                    injection.at_seconds = (injection.began_at or time.monotonic()) - self.began_at
            injection.state = "recovering"
        injection.state = "over"

    async def _measure_recovery(self, injection: Injection) -> None:
        await injection.over.wait()
        ended_at = time.monotonic()
        delayed = self._orders.ids

        async def is_recovered() -> bool:
            since = time.monotonic() - ended_at
            delayed.intersection_update(self._orders.ids)  # one that is cancelled later may be open again
            if injection.back_seconds is None and await self._is_back(ended_at):
                injection.back_seconds = since
            if injection.backlog_seconds is None and not delayed:
                injection.backlog_seconds = since
            return injection.back_seconds is not None and injection.backlog_seconds is not None

        await poll(is_recovered, within_seconds=RECOVERY_TIMEOUT_SECONDS, every_seconds=POLL_SECONDS)

    async def _is_back(self, ended_at: float) -> bool:
        return self._orders.last_confirmed_at > ended_at and not await self._client.unready()

    async def _until_quiet(self) -> None:
        async def all_are_closed() -> bool:
            return not len(self._orders)

        await poll(all_are_closed, within_seconds=self.report.quiet_within_seconds, every_seconds=ORDERS_SECONDS)


def _broker(directory: Path, nodes: int) -> Broker:
    # `autoheal`, since the clients and the other nodes of one that is frozen find it at different times
    return PrivateBroker(directory) if nodes == 1 else PrivateCluster(directory, nodes, partitions="autoheal")


@asynccontextmanager
async def started(report: ChaosReport, directory: Path, progress: Callable[[str], None]) -> AsyncIterator[Chaos]:
    """A system of its own with a broker of its own, ready for `Chaos.run`; nothing of it runs after the block.

    Raises LaunchError.
    """
    async with AsyncExitStack() as stack:
        progress("Starting RabbitMQ" if report.nodes == 1 else f"Starting RabbitMQ, {report.nodes} nodes")
        try:
            broker = _broker(directory / "rabbitmq", report.nodes)
            await stack.enter_async_context(broker)
        except (BrokerError, NotInstalledError) as error:
            raise LaunchError(str(error)) from error
        proxy, url = await stack.enter_async_context(proxy_to(broker.amqp_url()))
        environment = {
            **private_settings(),
            **SYSTEM_SETTINGS,
            "RABBITMQ_URL": ",".join(f"{each}?heartbeat={HEARTBEAT_SECONDS}" for each in node_urls(url)),
            "RABBITMQ_MANAGEMENT_URL": broker.management_url,
        }
        system = await stack.enter_async_context(launch(directory, environment=environment, progress=progress))
        client = await stack.enter_async_context(
            connected(SystemAddresses.of(system.environment), CALL_TIMEOUT_SECONDS)
        )
        tested = SystemUnderTest(client, report.seen.orders, system, broker, proxy, newest_queue_at=time.monotonic())
        yield Chaos(report, tested, directory, lambda injection: FAULTS[injection.fault].inject(tested, injection))


@asynccontextmanager
async def attached(
    found: Composed, report: ChaosReport, directory: Path, progress: Callable[[str], None]
) -> AsyncIterator[Chaos]:
    """The system that `docker compose` runs, ready for `Chaos.run`; it goes on after the block.

    Raises LaunchError, NotRunning, AuditImpossible.
    """
    async with connected(found.addresses, CALL_TIMEOUT_SECONDS) as client:
        progress("Waiting until every service is ready")
        await client.wait_until_ready(READY_SECONDS)
        progress("Auditing what is there already")
        before = await client.audit_until_clean(report.quiet_within_seconds)
        if not before.is_final:
            raise LaunchError("the system is not clean before the first fault; `order-rail audit` says why")
        report.orders_before = before.as_json()["counts"]["orders"]
        report.retries_seconds = sum(found.addresses.retry_delays_of(CHARGE))
        tested = ComposedSystem(client, report.seen.orders, *await containers(found))
        yield Chaos(
            report, tested, directory, lambda injection: IN_CONTAINERS[injection.fault].inject(tested, injection)
        )

"""One chaos run from beginning to end: start, load and faults, quiet, audit."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from control_room.background import running
from control_room.experiments.chaos.customers import SteadyCustomers
from control_room.experiments.chaos.faults import FAULTS, Injection
from control_room.experiments.chaos.journal import Journal
from control_room.experiments.chaos.proxy import proxy_to
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.system import HEARTBEAT_SECONDS, SERVICES, NoEvidence, SystemUnderTest
from control_room.experiments.chaos.watch import Watch
from control_room.experiments.client import connected, repeat
from control_room.experiments.traffic import LoadReport
from control_room.launcher import LaunchError
from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.installed import NotInstalledError
from control_room.launcher.system import launch, private_settings
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditReport
from control_room.operations.roles import ORDERS
from shared.management import ManagementError
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.publisher import PublishError
from shared.waiting import poll

SYSTEM_SETTINGS = {
    "RETRY_DELAYS_SECONDS": "0.5,1,2",
    "EMAIL_RETRY_DELAYS_SECONDS": "0.5,1,2",
    "SWEEP_AFTER_SECONDS": "6",
    "GATEWAY_LATENCY_SECONDS": "0.05",
}
RECOVERY_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1
ORDERS_SECONDS, SERVICE_SECONDS = 0.5, 1.0
"""Between two looks."""
CALL_TIMEOUT_SECONDS = 5.0
FAILED = (
    NoEvidence, ManagementError, BrokerError, BrokerUnavailable, PublishError, NotInstalledError, psutil.Error, OSError,
)  # fmt: skip
JOURNAL = "journal"


@dataclass(frozen=True)
class Plan:
    """What is asked of a run. `load_seconds` at least: the load goes on until the last fault is over."""

    seed: int
    rate: float
    load_seconds: float
    injections: Sequence[Injection]
    directory: Path
    recover_within_seconds: float = 15.0
    quiet_within_seconds: float = 90.0
    """How long the last orders may be open once the load has ended; and then, how long until the audit is clean."""


class Chaos:
    """A run on a started system. Its parts may be watched while it goes on."""

    def __init__(self, plan: Plan, system: SystemUnderTest, watch: Watch, journal: Journal) -> None:
        self.plan, self.injections = plan, plan.injections
        self.phase = "warming up"
        self.watch = watch
        self.customers = SteadyCustomers(
            system.system.url(ORDERS.name), plan.rate, plan.seed, journal, watch.orders.add
        )
        self.began_at = time.monotonic()
        self._system, self._client = system, system.client

    async def run(self) -> ChaosReport:
        """Load and faults, then quiet, then the audit. Raises OSError, AuditImpossible."""
        self.began_at = time.monotonic()
        looks = [repeat(self.watch.look_at_orders, ORDERS_SECONDS)]
        looks += [repeat(partial(self.watch.look_at, service), SERVICE_SECONDS) for service in SERVICES]
        async with AsyncExitStack() as stack:
            for look in looks:
                await stack.enter_async_context(running(look, "chaos watch"))
            load = await self._load()
            await self._until_quiet()
            self.phase = "audit"
            # Kitchen tickets and text messages may come after the status that counts as the order's end.
            audited = await self._client.audit_until_clean(
                self.plan.quiet_within_seconds, journal=self.plan.directory / JOURNAL
            )
        return self._report(load, audited)

    async def _load(self) -> LoadReport:
        ordering = asyncio.create_task(self.customers.order_until_stopped(), name="customers")
        try:
            await self._inject_all(ordering)
            self.phase = "no more orders; waiting until all are closed"
            self.customers.is_stopped = True
            await ordering
        finally:
            ordering.cancel()
        return self.customers.report()

    async def _inject_all(self, ordering: "asyncio.Task[None]") -> None:
        for injection in self.injections:
            await self._wait_until(injection.at_seconds, ordering)
            self.phase = f"{injection}"
            await self._inject(injection)
            self.phase = "load"
        await self._wait_until(self.plan.load_seconds, ordering)

    async def _wait_until(self, seconds: float, ordering: "asyncio.Task[None]") -> None:
        """Some seconds after the start; raises what the customers raised, should they have failed."""
        wait = max(0.0, self.began_at + seconds - time.monotonic())
        done, _ = await asyncio.wait([ordering], timeout=wait)
        for task in done:
            task.result()

    async def _inject(self, injection: Injection) -> None:
        """The recovery is measured while the fault still collects evidence."""
        injection.state = "injected"
        recovery = asyncio.create_task(self._measure_recovery(injection), name="recovery")
        try:
            await FAULTS[injection.fault].inject(self._system, injection)
        except FAILED as error:
            injection.problem = str(error) or type(error).__name__
        finally:
            with injection.active():  # it may have failed before it began
                injection.at_seconds = (injection.began_at or time.monotonic()) - self.began_at
        injection.state = "recovering"
        await recovery
        injection.state = "over"

    async def _measure_recovery(self, injection: Injection) -> None:
        await injection.over.wait()
        ended_at = time.monotonic()
        delayed = self.watch.orders.ids

        async def is_recovered() -> bool:
            since = time.monotonic() - ended_at
            if injection.back_seconds is None and await self._is_back(ended_at):
                injection.back_seconds = since
            if injection.backlog_seconds is None and not delayed & self.watch.orders.ids:
                injection.backlog_seconds = since
            return injection.back_seconds is not None and injection.backlog_seconds is not None

        await poll(is_recovered, within_seconds=RECOVERY_TIMEOUT_SECONDS, every_seconds=POLL_SECONDS)

    async def _is_back(self, ended_at: float) -> bool:
        return self.watch.orders.last_confirmed_at > ended_at and not await self._client.unready()

    async def _until_quiet(self) -> None:
        async def all_are_closed() -> bool:
            return not len(self.watch.orders)

        await poll(all_are_closed, within_seconds=self.plan.quiet_within_seconds, every_seconds=ORDERS_SECONDS)

    def _report(self, load: LoadReport, audited: AuditReport) -> ChaosReport:
        return ChaosReport(
            seed=self.plan.seed,
            rate=self.plan.rate,
            recover_within_seconds=self.plan.recover_within_seconds,
            load=load,
            injections=tuple(self.injections),
            closed=self.watch.orders.closed,
            still_open=tuple(sorted(self.watch.orders.ids)),
            duplicates=self.watch.duplicates,
            swept=self.watch.swept,
            memory=self.watch.memory,
            audit=audited.as_json(),
        )


@asynccontextmanager
async def started(plan: Plan, progress: Callable[[str], None]) -> AsyncIterator[Chaos]:
    """A system of its own with a broker of its own, ready for `Chaos.run`; nothing of it runs after the block.

    Raises LaunchError.
    """
    async with AsyncExitStack() as stack:
        progress("Starting RabbitMQ")
        try:
            broker = await stack.enter_async_context(PrivateBroker(plan.directory / "rabbitmq"))
        except (BrokerError, NotInstalledError) as error:
            raise LaunchError(str(error)) from error
        proxy, url = await stack.enter_async_context(proxy_to(broker.amqp_url()))
        environment = {
            **private_settings(),
            **SYSTEM_SETTINGS,
            "RABBITMQ_URL": f"{url}?heartbeat={HEARTBEAT_SECONDS}",
            "RABBITMQ_MANAGEMENT_URL": broker.management_url,
        }
        system = await stack.enter_async_context(launch(plan.directory, environment=environment, progress=progress))
        client = await stack.enter_async_context(
            connected(SystemAddresses.of(system.environment), CALL_TIMEOUT_SECONDS)
        )
        watch = Watch(client, system.processes)
        tested = SystemUnderTest(system, broker, proxy, client, watch.orders, newest_queue_at=time.monotonic())
        journal = stack.enter_context(closing(Journal(plan.directory / JOURNAL)))
        yield Chaos(plan, tested, watch, journal)

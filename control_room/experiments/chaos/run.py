"""One chaos run from beginning to end: start, load and faults, quiet, audit."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from control_room.background import running
from control_room.experiments.chaos.customers import SteadyCustomers
from control_room.experiments.chaos.faults import FAULTS, Injection
from control_room.experiments.chaos.journal import Journal, write_order_ids
from control_room.experiments.chaos.proxy import proxy_to
from control_room.experiments.chaos.report import ChaosReport, LoadReport
from control_room.experiments.chaos.system import HEARTBEAT_SECONDS, NoEvidence, SystemUnderTest
from control_room.experiments.chaos.watch import LOOK_SECONDS, MEASURE_SECONDS, Watch
from control_room.experiments.client import Client
from control_room.launcher import LaunchError
from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.installed import NotInstalledError
from control_room.launcher.system import launch, private_settings
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditReport, audit
from control_room.operations.roles import ORDERS
from control_room.text import percentiles
from shared.management import Management, ManagementError
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
AUDIT_AGAIN_SECONDS = 2.0
FAILED = (
    NoEvidence, ManagementError, BrokerError, BrokerUnavailable, PublishError, NotInstalledError, psutil.Error, OSError,
)  # fmt: skip
JOURNAL, ACCEPTED = "journal", "accepted"


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

    def __init__(self, plan: Plan, system: SystemUnderTest, journal: Journal) -> None:
        self.plan, self.injections = plan, plan.injections
        self.phase = "warming up"
        self.watch = system.watch
        self.customers = SteadyCustomers(
            system.system.url(ORDERS.name), plan.rate, plan.seed, journal, self.watch.orders.add
        )
        self.began_at = time.monotonic()
        self._system, self._journal = system, journal
        self._load_seconds = 0.0

    async def run(self) -> ChaosReport:
        """Load and faults, then quiet, then the audit. Raises OSError, AuditImpossible."""
        self.began_at = time.monotonic()
        async with AsyncExitStack() as stack:
            for work in (self.watch.follow_orders(), self.watch.follow_metrics(), self._follow_memory()):
                await stack.enter_async_context(running(work, "chaos watch"))
            await self._load()
            await self._until_quiet()
            self.phase = "audit"
            audited = await self._audit_until_clean()
        return self._report(audited)

    async def _follow_memory(self) -> None:
        while True:
            self.watch.measure_memory({name: each.pid for name, each in self._system.system.processes.items()})
            await asyncio.sleep(MEASURE_SECONDS)

    async def _load(self) -> None:
        ordering = asyncio.create_task(self.customers.order_until_stopped(), name="customers")
        try:
            await self._inject_all(ordering)
            self.phase = "no more orders; waiting until all are closed"
            self.customers.stop()
            await ordering
        finally:
            ordering.cancel()
        self._load_seconds = time.monotonic() - self.began_at

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
        return self.watch.orders.last_confirmed_at > ended_at and not await self.watch.unready()

    async def _until_quiet(self) -> None:
        async def all_are_closed() -> bool:
            return not len(self.watch.orders)

        await poll(all_are_closed, within_seconds=self.plan.quiet_within_seconds, every_seconds=LOOK_SECONDS)

    async def _audit_until_clean(self) -> AuditReport:
        """Kitchen tickets and text messages may come after the status that counts as the order's end."""
        accepted = self.plan.directory / ACCEPTED
        write_order_ids(self._journal.path, accepted)
        return await poll(
            lambda: audit(self._system.client.addresses, 0, accepted),
            until=lambda report: report.is_final,
            within_seconds=self.plan.quiet_within_seconds,
            every_seconds=AUDIT_AGAIN_SECONDS,
        )

    def _report(self, audited: AuditReport) -> ChaosReport:
        tally, orders = self.customers.tally, self.watch.orders
        return ChaosReport(
            seed=self.plan.seed,
            rate=self.plan.rate,
            recover_within_seconds=self.plan.recover_within_seconds,
            load=LoadReport(
                placed=tally.placed,
                accepted=tally.accepted,
                repeated=tally.repeated,
                replayed=tally.replayed,
                unknown=tally.unanswered,
                refused=dict(tally.refused),
                seconds=self._load_seconds,
                latency_seconds=percentiles(tally.latencies_seconds),
            ),
            injections=tuple(self.injections),
            closed=orders.closed,
            still_open=tuple(sorted(orders.ids)),
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
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
        management = await stack.enter_async_context(Management(system.broker_settings))
        watch = Watch({name: system.url(name) for name in system.processes}, http)
        client = Client(SystemAddresses.of(system.environment), http, management)
        tested = SystemUnderTest(system, broker, proxy, watch, management, client, newest_queue_at=time.monotonic())
        yield Chaos(plan, tested, await stack.enter_async_context(Journal(plan.directory / JOURNAL)))

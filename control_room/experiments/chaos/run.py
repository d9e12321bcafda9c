"""One chaos run from beginning to end: start, load and faults, quiet, audit."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import httpx
import psutil

from control_room.background import running
from control_room.experiments.chaos.customers import Customers
from control_room.experiments.chaos.faults import FAULTS, Marks, NoEvidence, Scene
from control_room.experiments.chaos.faults.scene import HEARTBEAT_SECONDS
from control_room.experiments.chaos.journal import Journal, write_order_ids
from control_room.experiments.chaos.report import ChaosReport, FallReport, LoadReport, MemoryReport
from control_room.experiments.chaos.schedule import Fall
from control_room.experiments.chaos.watch import LOOK_SECONDS, MEASURE_SECONDS, Watch
from control_room.experiments.chaos.wire import Proxy, proxy_to
from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.installed import NotInstalledError
from control_room.launcher.system import LaunchError, System, launch
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditReport, audit
from shared.management import Management, ManagementError
from shared.messaging.channel import BrokerUnavailable

SYSTEM_SETTINGS = {
    "RETRY_DELAYS_SECONDS": "0.5,1,2",
    "EMAIL_RETRY_DELAYS_SECONDS": "0.5,1,2",
    "SWEEP_AFTER_SECONDS": "6",
    "GATEWAY_LATENCY_SECONDS": "0.05",
    # A system of its own, whatever the environment says.
    **dict.fromkeys(("ORDER_SERVICE_DATABASE_URL", "PAYMENT_SERVICE_DATABASE_URL"), ""),
    **dict.fromkeys(("NOTIFICATION_SERVICE_DATABASE_URL", "GATEWAY_URL"), ""),
    **dict.fromkeys(("EMAIL_URL", "SMS_URL", "RESTAURANT_URL"), ""),
}
RECOVERY_DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.1
AUDIT_AGAIN_SECONDS = 2.0
WENT_WRONG = (NoEvidence, ManagementError, BrokerError, BrokerUnavailable, NotInstalledError, psutil.Error, OSError)
JOURNAL, ACCEPTED = "journal", "accepted"


@dataclass(frozen=True)
class Plan:
    """What is asked of a run. `load_seconds` at least: the load goes on until the last fault is over."""

    seed: int
    rate: float
    load_seconds: float
    falls: Sequence[Fall]
    directory: Path
    recover_within_seconds: float = 15.0
    quiet_within_seconds: float = 90.0
    """How long orders may take to settle, and the books to agree, once the load has ended; each."""


@dataclass
class Falling:
    """One fault on its way. `state` is a word for those who watch."""

    fall: Fall
    state: str = "planned"
    at_seconds: float = 0.0
    marks: Marks = field(default_factory=Marks)
    problem: str = ""
    back_seconds: float | None = None
    backlog_seconds: float | None = None

    def report(self) -> FallReport:
        """What came of it."""
        lasted = (self.marks.ended_at or self.marks.began_at) - self.marks.began_at
        return FallReport(
            self.fall.fault, self.fall.target, self.at_seconds, lasted, tuple(self.marks.evidence),
            self.back_seconds, self.backlog_seconds, self.problem,
        )  # fmt: skip


class Chaos:
    """A run on a started system. Its parts may be watched while it goes on."""

    def __init__(self, plan: Plan, scene: Scene, journal: Journal) -> None:
        self.plan, self.scene, self.watch, self._journal = plan, scene, scene.watch, journal
        self.falls = [Falling(fall) for fall in plan.falls]
        self.phase = "warming up"
        url = scene.system.url("order_service")
        self.customers = Customers(url, plan.rate, plan.seed, journal, self.watch.orders.add)
        self.began_at = time.monotonic()
        self._load_seconds = 0.0

    async def run(self) -> ChaosReport:
        """Load and faults, then quiet, then the audit. Raises OSError, AuditImpossible."""
        self.began_at = time.monotonic()
        async with self._watched():
            ordering = asyncio.create_task(self.customers.order_until_stopped(), name="customers")
            try:
                await self._let_faults_fall(ordering)
                self.phase = "no more orders; waiting until all is quiet"
                self.customers.stop()
                await ordering
            finally:
                ordering.cancel()
            self._load_seconds = time.monotonic() - self.began_at
            await self._until_quiet()
            self.phase = "audit"
            audited = await self._audit_until_clean()
        return self._report(audited)

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for work in (self.watch.follow_orders(), self.watch.follow_metrics(), self._follow_memory()):
                await stack.enter_async_context(running(work, "chaos watch"))
            yield

    async def _follow_memory(self) -> None:
        while True:
            self.watch.measure_memory({name: process.pid for name, process in self.scene.system.processes.items()})
            await asyncio.sleep(MEASURE_SECONDS)

    async def _let_faults_fall(self, ordering: "asyncio.Task[None]") -> None:
        for falling in self.falls:
            await self._wait_until(falling.fall.at_seconds, ordering)
            self.phase = f"{falling.fall}"
            await self._fall(falling)
            self.phase = "load"
        await self._wait_until(self.plan.load_seconds, ordering)

    async def _wait_until(self, seconds: float, ordering: "asyncio.Task[None]") -> None:
        """Some seconds after the start; raises what the customers raised, should they have failed."""
        wait = max(0.0, self.began_at + seconds - time.monotonic())
        done, _ = await asyncio.wait([ordering], timeout=wait)
        for task in done:
            task.result()

    async def _fall(self, falling: Falling) -> None:
        marks, falling.state = falling.marks, "falling"
        recovering: list[asyncio.Task[None]] = []
        marks.on_end = lambda: recovering.append(asyncio.create_task(self._recovery(falling)))
        falling.at_seconds = time.monotonic() - self.began_at
        try:
            await FAULTS[falling.fall.fault].fall(self.scene, falling.fall, marks)
        except WENT_WRONG as error:
            falling.problem = str(error) or type(error).__name__
        finally:
            marks.end()
            falling.at_seconds = (marks.began_at or time.monotonic()) - self.began_at
        falling.state = "recovering"
        await asyncio.gather(*recovering)
        falling.state = "over"

    async def _recovery(self, falling: Falling) -> None:
        """Note how long it takes until orders are confirmed again, and until those that were held up have settled."""
        ended_at = falling.marks.ended_at or time.monotonic()
        held_up = self.watch.orders.ids
        while time.monotonic() < ended_at + RECOVERY_DEADLINE_SECONDS:
            since = time.monotonic() - ended_at
            if falling.back_seconds is None and await self._is_back(ended_at):
                falling.back_seconds = since
            if falling.backlog_seconds is None and not held_up & self.watch.orders.ids:
                falling.backlog_seconds = since
            if falling.back_seconds is not None and falling.backlog_seconds is not None:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _is_back(self, ended_at: float) -> bool:
        return self.watch.orders.last_confirmed_at > ended_at and not await self.watch.unready()

    async def _until_quiet(self) -> None:
        deadline = time.monotonic() + self.plan.quiet_within_seconds
        while time.monotonic() < deadline:
            if not len(self.watch.orders):
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _audit_until_clean(self) -> AuditReport:
        """Kitchen tickets and text messages may come after the status that counts as the order's end."""
        write_order_ids(self._journal.path, self.plan.directory / ACCEPTED)
        addresses = SystemAddresses.of(self.scene.system.environment)
        deadline = time.monotonic() + self.plan.quiet_within_seconds
        while True:
            report = await audit(addresses, 0, self.plan.directory / ACCEPTED)
            if report.is_final or time.monotonic() > deadline:
                return report
            await asyncio.sleep(AUDIT_AGAIN_SECONDS)

    def _report(self, audited: AuditReport) -> ChaosReport:
        return ChaosReport(
            seed=self.plan.seed,
            rate=self.plan.rate,
            recover_within_seconds=self.plan.recover_within_seconds,
            load=self._load(),
            falls=tuple(falling.report() for falling in self.falls),
            never_fell=tuple(str(falling.fall) for falling in self.falls if falling.state == "planned"),
            settled=self.watch.orders.settled,
            still_open=tuple(sorted(self.watch.orders.ids)),
            duplicates=self.watch.duplicates,
            swept=self.watch.swept,
            memory=tuple(
                MemoryReport(service, memory.warm, memory.last) for service, memory in self.watch.memory.items()
            ),
            audit=audited.as_json(),
        )

    def _load(self) -> LoadReport:
        tally = self.customers.tally
        return LoadReport(
            placed=tally.placed,
            accepted=tally.accepted,
            asked_again=tally.asked_again,
            replayed=tally.replayed,
            unknown=tally.given_up,
            refused=dict(tally.refused),
            seconds=self._load_seconds,
            latency_seconds=_percentiles(tally.latencies_seconds),
        )


def _percentiles(latencies_seconds: Sequence[float]) -> dict[str, float]:
    if len(latencies_seconds) < 2:
        return {}
    cuts = quantiles(latencies_seconds, n=1000, method="inclusive")
    return {"p50": cuts[499], "p95": cuts[949], "p99": cuts[989], "p99.9": cuts[998], "max": max(latencies_seconds)}


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
        wire, url = await stack.enter_async_context(proxy_to(broker.amqp_url()))
        where = {
            "RABBITMQ_URL": f"{url}?heartbeat={HEARTBEAT_SECONDS}",
            "RABBITMQ_MANAGEMENT_URL": broker.management_url,
        }
        environment = {**SYSTEM_SETTINGS, **where}
        system = await stack.enter_async_context(launch(plan.directory, environment=environment, progress=progress))
        scene = await _scene(stack, system, broker, wire)
        scene.queue_put_back_at = time.monotonic()  # all queues are new
        yield Chaos(plan, scene, await stack.enter_async_context(Journal(plan.directory / JOURNAL)))


async def _scene(stack: AsyncExitStack, system: System, broker: PrivateBroker, wire: Proxy) -> Scene:
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
    management = await stack.enter_async_context(Management(system.broker_settings))
    watch = Watch({name: system.url(name) for name in system.processes}, http)
    return Scene(system, broker, wire, watch, management)

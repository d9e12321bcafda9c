"""One flash sale from beginning to end: a system to sell on, the sale, the drain, the audit."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from control_room.background import running
from control_room.experiments.flash_sale.rail import seconds_to_drain
from control_room.experiments.flash_sale.report import OVER, SaleReport
from control_room.experiments.flash_sale.sell import Progress, Sale
from control_room.experiments.flash_sale.watch import RailWatch, processors
from control_room.launcher.system import launch, private_settings
from control_room.operations.addresses import SystemAddresses, find_environment, find_system
from control_room.operations.audit import AuditReport, audit
from control_room.operations.audit.in_flight import leftovers
from control_room.operations.roles import ORDERS
from shared.management import Management
from shared.waiting import poll

GATEWAY_LATENCY_SECONDS = 1.0
"""Of the system that is started: long against what else a charge takes, short against the time between two looks."""

ACCEPTED_IDS = "accepted"
GIVE_UP_AFTER_SECONDS = 60.0
"""Without a single payment, or without the last notification: then the rail does not drain by itself."""

POLL_SECONDS = 0.5
AUDIT_AGAIN_SECONDS = 2.0
OTHERS_SETTLE_SECONDS = 5.0
"""While orders still wait, or other customers place some: the audit passes over those that have just changed."""


@dataclass(frozen=True)
class Plan:
    """What is asked for. `payments_per_minute` is None where the system runs already and sets its own pace."""

    orders: int
    seconds: float
    directory: Path
    payments_per_minute: int | None
    drain: bool = True

    @property
    def is_own(self) -> bool:
        """Whether it starts a system of its own."""
        return self.payments_per_minute is not None


def paced(payments_per_minute: int) -> dict[str, str]:
    """The environment of a payment service that charges at most so many orders a minute."""
    concurrency = max(1, round(payments_per_minute / 60 * GATEWAY_LATENCY_SECONDS))
    latency_seconds = concurrency * 60 / payments_per_minute
    return {"PAYMENT_CONCURRENCY": str(concurrency), "GATEWAY_LATENCY_SECONDS": f"{latency_seconds:.6g}"}


class FlashSale:
    """A sale on a system that runs. `watch`, `progress` and `report` are up to date also where it is interrupted."""

    def __init__(
        self,
        plan: Plan,
        addresses: SystemAddresses,
        environment: Mapping[str, str | None],
        http: httpx.AsyncClient,
        management: Management,
    ) -> None:
        self.plan = plan
        self.watch = RailWatch(addresses, http, management)
        self.report = SaleReport(
            plan.orders, plan.seconds, plan.payments_per_minute, plan.drain, looks=self.watch.looks
        )
        self.progress = Progress(0.0, 0, 0, 0, 0)
        self._addresses, self._http, self._management = addresses, http, management
        self._sale = Sale(addresses.services[ORDERS.name], plan.orders, plan.seconds, plan.directory / ACCEPTED_IDS)
        self._count_processors = processors(environment)

    async def run(self) -> None:
        """Sell, wait until all is drained, audit. Raises SaleFailed, AuditImpossible, one of UNREACHABLE."""
        await self.watch.begin()
        async with running(self.watch.follow(), "flash sale watch"):
            await self._sell()
            if self.plan.drain:
                self.report.ended_in = "no more orders come; the rail drains"
                await self._drain()
            self.report.ended_in = "audit"
            self.report.audit = (await self._audit_until_clean()).as_json()
        self.report.ended_in = OVER

    async def _sell(self) -> None:
        self.report.ended_in = "sale"
        before = self._count_processors()
        try:
            await self._sale.run(self._on_progress)
            await self.watch.look()
        finally:
            after = self._count_processors()
            self.report.sale = self._sale.result
            self.report.processor_seconds = {name: after[name] - before[name] for name in before if name in after}
            self.report.predicted_seconds = seconds_to_drain(self.watch.looks)

    def _on_progress(self, progress: Progress) -> None:
        self.progress = progress

    async def _drain(self) -> None:
        """Wait until every order is paid and its customer notified, or nothing moves any more."""
        began_at = time.monotonic()
        is_paid = True
        while is_paid and self.watch.looks[-1].backlog:
            is_paid = await self._one_more_is_paid(self.watch.looks[-1].paid)
        if not is_paid:
            return
        self.report.drained_seconds = time.monotonic() - began_at
        await poll(
            lambda: leftovers(self._addresses, self._http, self._management),
            within_seconds=GIVE_UP_AFTER_SECONDS,
            every_seconds=POLL_SECONDS,
            until=lambda left: left.is_empty,
        )

    async def _one_more_is_paid(self, paid: int) -> bool:
        async def look() -> bool:
            return self.watch.looks[-1].paid != paid or not self.watch.looks[-1].backlog

        return await poll(look, within_seconds=GIVE_UP_AFTER_SECONDS, every_seconds=POLL_SECONDS)

    async def _audit_until_clean(self) -> AuditReport:
        """On a private system that has drained, no order may be in flight any more."""
        must_be_final = self.report.drained_seconds is not None and self.plan.is_own
        settle_seconds = 0.0 if must_be_final else OTHERS_SETTLE_SECONDS
        return await poll(
            lambda: audit(self._addresses, settle_seconds, self.plan.directory / ACCEPTED_IDS),
            within_seconds=GIVE_UP_AFTER_SECONDS,
            every_seconds=AUDIT_AGAIN_SECONDS,
            until=lambda report: report.is_final if must_be_final else report.is_clean,
        )


@asynccontextmanager
async def on_own_system(plan: Plan, progress: Callable[[str], None]) -> AsyncIterator[FlashSale]:
    """On a system with a private broker, which pays at the plan's pace; nothing of it runs after the block.

    Raises LaunchError.
    """
    pace = paced(plan.payments_per_minute) if plan.payments_per_minute else {}
    async with (
        launch(plan.directory, environment={**private_settings(), **pace}, progress=progress) as system,
        _connected(plan, SystemAddresses.of(system.environment), system.environment) as sale,
    ):
        yield sale


@asynccontextmanager
async def on_running_system(plan: Plan, environment_file: Path | None) -> AsyncIterator[FlashSale]:
    """On the system that the file, or our environment, tells of. Raises NotRunning."""
    environment, _ = find_environment(environment_file)
    async with _connected(plan, find_system(environment_file), environment) as sale:
        yield sale


@asynccontextmanager
async def _connected(
    plan: Plan, addresses: SystemAddresses, environment: Mapping[str, str | None]
) -> AsyncIterator[FlashSale]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        management = await stack.enter_async_context(Management(addresses))
        yield FlashSale(plan, addresses, environment, http, management)

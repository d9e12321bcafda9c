"""One flash sale from beginning to end: a system to sell on, the sale, the drain, the audit."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from control_room.background import running
from control_room.experiments.client import Client, connected, repeat
from control_room.experiments.flash_sale.rail import seconds_to_drain
from control_room.experiments.flash_sale.report import OVER, SaleReport
from control_room.experiments.flash_sale.sell import sell
from control_room.experiments.flash_sale.watch import RailWatch, processor_seconds
from control_room.experiments.traffic import LoadReport
from control_room.launcher.system import launch, private_settings
from control_room.operations.addresses import SystemAddresses, find_environment, find_system
from control_room.operations.audit.in_flight import leftovers
from control_room.operations.roles import ORDERS
from shared.waiting import poll

GATEWAY_LATENCY_SECONDS = 1.0
"""Of the system that is started: long against what else a charge takes, short against the time between two looks."""

ACCEPTED_IDS = "accepted"
GIVE_UP_AFTER_SECONDS = 60.0
"""Without a single payment, or without the last notification: then the rail does not drain by itself."""

LOOK_SECONDS, POLL_SECONDS = 1.0, 0.5
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


def paced(payments_per_minute: int) -> dict[str, str]:
    """The environment of a payment service that charges at most so many orders a minute."""
    concurrency = max(1, round(payments_per_minute / 60 * GATEWAY_LATENCY_SECONDS))
    latency_seconds = concurrency * 60 / payments_per_minute
    return {"PAYMENT_CONCURRENCY": str(concurrency), "GATEWAY_LATENCY_SECONDS": f"{latency_seconds:.6g}"}


class FlashSale:
    """A sale on a system that runs. `report` is up to date also while it goes on, and where it is interrupted."""

    def __init__(self, plan: Plan, client: Client, environment: Mapping[str, str | None]) -> None:
        self.plan = plan
        self._watch = RailWatch(client)
        self.report = SaleReport(
            plan.orders, plan.seconds, plan.payments_per_minute, plan.drain, looks=self._watch.looks
        )
        self._client, self._environment = client, environment

    async def run(self) -> None:
        """Sell, wait until all is drained, audit. Raises SaleFailed, AuditImpossible, one of UNREACHABLE."""
        await self._watch.look()
        async with running(repeat(self._watch.look, LOOK_SECONDS), "flash sale watch"):
            await self._sell()
            if self.plan.drain:
                self.report.ended_in = "no more orders come; the rail drains"
                await self._drain()
            self.report.ended_in = "audit"
            await self._audit()
        self.report.ended_in = OVER

    async def _sell(self) -> None:
        self.report.ended_in = "sale"
        before = processor_seconds(self._environment)
        try:
            url, accepted = self._client.addresses.services[ORDERS.name], self.plan.directory / ACCEPTED_IDS
            await sell(url, self.plan.orders, self.plan.seconds, self._on_report, accepted_ids=accepted)
            await self._watch.look()
        finally:
            after = processor_seconds(self._environment)
            self.report.processor_seconds = {name: after[name] - before[name] for name in before if name in after}
            self.report.predicted_seconds = seconds_to_drain(self.report.looks)

    def _on_report(self, report: LoadReport) -> None:
        self.report.sale = report

    async def _drain(self) -> None:
        """Wait until every order is paid and its customer notified, or nothing moves any more."""
        began_at = time.monotonic()
        while (last := self.report.looks[-1]).backlog:
            if not await self._one_more_is_paid(last.paid):
                return
        self.report.drained_seconds = time.monotonic() - began_at
        await poll(
            lambda: leftovers(self._client.addresses, self._client.http, self._client.management),
            within_seconds=GIVE_UP_AFTER_SECONDS,
            every_seconds=POLL_SECONDS,
            until=lambda left: left.is_empty,
        )

    async def _one_more_is_paid(self, paid: int) -> bool:
        async def look() -> bool:
            return self.report.looks[-1].paid != paid

        return await poll(look, within_seconds=GIVE_UP_AFTER_SECONDS, every_seconds=POLL_SECONDS)

    async def _audit(self) -> None:
        """On a private system that has drained, no order may be in flight any more."""
        must_be_final = self.report.drained_seconds is not None and self.plan.payments_per_minute is not None
        audited = await self._client.audit_until_clean(
            GIVE_UP_AFTER_SECONDS,
            0.0 if must_be_final else OTHERS_SETTLE_SECONDS,
            journal=self.plan.directory / ACCEPTED_IDS,
        )
        self.report.audit = audited.as_json()


@asynccontextmanager
async def on_own_system(plan: Plan, progress: Callable[[str], None]) -> AsyncIterator[FlashSale]:
    """On a system with a private broker, which pays at the plan's pace; nothing of it runs after the block.

    Raises LaunchError.
    """
    pace = paced(plan.payments_per_minute) if plan.payments_per_minute else {}
    async with (
        launch(plan.directory, environment={**private_settings(), **pace}, progress=progress) as system,
        connected(SystemAddresses.of(system.environment)) as client,
    ):
        yield FlashSale(plan, client, system.environment)


@asynccontextmanager
async def on_running_system(plan: Plan, environment_file: Path | None) -> AsyncIterator[FlashSale]:
    """On the system that the file, or our environment, tells of. Raises NotRunning."""
    environment, _ = find_environment(environment_file)
    async with connected(find_system(environment_file)) as client:
        yield FlashSale(plan, client, environment)

"""One flash sale from beginning to end: a system to sell on, the sale, the drain, the audit."""

import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from control_room.background import running
from control_room.experiments.client import Client, connected, repeat
from control_room.experiments.flash_sale.rail import Look, rate, seconds_to_drain
from control_room.experiments.flash_sale.report import OVER, SaleReport
from control_room.experiments.flash_sale.sell import sell
from control_room.experiments.traffic import LoadReport
from control_room.launcher.system import launch, private_settings
from control_room.operations.addresses import SystemAddresses, find_environment, find_system
from control_room.operations.audit.in_flight import leftovers
from control_room.operations.replicas import Total, sum_of
from control_room.operations.roles import CHARGE, ORDERS, PAYMENTS
from shared.waiting import poll

GATEWAY_LATENCY_SECONDS = 1.0
"""Of the system that is started: long against what else a charge takes, short against the time between two looks."""

ACCEPTED_IDS = "accepted"
GIVE_UP_AFTER_SECONDS = 60.0
"""Without a single payment, or without the last notification: then the rail does not drain by itself."""

ACCEPTED = "order_rail_orders_accepted_total"
OUTBOX = "order_rail_outbox_pending"
SETTLED = "order_rail_deliveries_settled_total"
PAID_OUTCOMES = ("ack", "deadletter")
"""Outcomes of a delivery after which its order is out of the backlog; a retry comes back."""

LOOK_SECONDS, POLL_SECONDS = 1.0, 0.5
OTHERS_SETTLE_SECONDS = 5.0
"""While orders still wait, or other customers place some: the audit passes over those that have just changed."""


def paced(payments_per_minute: int) -> dict[str, str]:
    """The environment of a payment service that charges at most so many orders a minute."""
    concurrency = max(1, round(payments_per_minute / 60 * GATEWAY_LATENCY_SECONDS))
    latency_seconds = concurrency * 60 / payments_per_minute
    return {"PAYMENT_CONCURRENCY": str(concurrency), "GATEWAY_LATENCY_SECONDS": f"{latency_seconds:.6g}"}


class FlashSale:
    """A sale on a system that runs; its report may be shown while it goes on."""

    def __init__(
        self, report: SaleReport, client: Client, environment: Mapping[str, str | None], accepted_ids: Path
    ) -> None:
        self.report = report
        self._client, self._environment, self._accepted_ids = client, environment, accepted_ids
        self._accepted, self._paid = Total(), Total()
        self._began_at: float | None = None

    async def run(self) -> None:
        """Sell, wait until all is drained, audit. Raises SaleFailed, AuditImpossible, one of UNREACHABLE."""
        await self._look()
        async with running(repeat(self._look, LOOK_SECONDS), "flash sale watch"):
            await self._sell()
            if self.report.drain:
                self.report.ended_in = "no more orders come; the rail drains"
                await self._drain()
            self.report.ended_in = "audit"
            await self._audit()
        self.report.ended_in = OVER

    async def _sell(self) -> None:
        self.report.ended_in = "sale"
        before = processor_seconds(self._environment)
        try:
            url = self._client.addresses.services[ORDERS.name]
            asked = (self.report.orders, self.report.seconds)
            await sell(url, *asked, self._on_report, accepted_ids=self._accepted_ids)
            await self._look()
        finally:
            after = processor_seconds(self._environment)
            self.report.processor_seconds = {name: after[name] - before[name] for name in before if name in after}
            self.report.predicted_seconds = seconds_to_drain(self.report.looks)

    def _on_report(self, report: LoadReport) -> None:
        self.report.sale = report

    async def _look(self) -> None:
        """Add what has happened since the first call to the report's looks. Raises one of UNREACHABLE."""
        orders, payments = await self._client.samples(ORDERS.name), await self._client.samples(PAYMENTS.name)
        accepted = sum_of(orders, ACCEPTED)
        paid = sum(sum_of(payments, SETTLED, {"queue": CHARGE, "outcome": outcome}) for outcome in PAID_OUTCOMES)
        if self._began_at is None:
            self._began_at, self._accepted, self._paid = time.monotonic(), Total(accepted), Total(paid)
            return
        self._accepted.see(accepted)
        self._paid.see(paid)
        # Replicas share one outbox, and each counts all of it.
        in_outbox = max((each.value for each in orders if each.name == OUTBOX), default=0)
        seconds = time.monotonic() - self._began_at
        management = self._client.management
        queue = await management.find("queues", management.vhost, CHARGE) or {}
        counts = (self._accepted.total, self._paid.total, in_outbox, queue.get("messages", 0))
        self.report.looks.append(Look(seconds, *map(round, counts)))

    async def _drain(self) -> None:
        """Wait until every order is paid and its customer notified, or nothing moves any more."""
        began_at, looks = time.monotonic(), self.report.looks

        async def is_over() -> bool:
            has_waited = time.monotonic() - began_at > GIVE_UP_AFTER_SECONDS
            return not looks[-1].backlog or (has_waited and rate(looks, "paid", GIVE_UP_AFTER_SECONDS) == 0)

        await poll(is_over, within_seconds=math.inf, every_seconds=POLL_SECONDS)
        if looks[-1].backlog:
            return
        self.report.drained_seconds = time.monotonic() - began_at
        await poll(
            lambda: leftovers(self._client.addresses, self._client.http, self._client.management),
            within_seconds=GIVE_UP_AFTER_SECONDS,
            every_seconds=POLL_SECONDS,
            until=lambda left: left.is_empty,
        )

    async def _audit(self) -> None:
        """On a private system that has drained, no order may be in flight any more."""
        must_be_final = self.report.drained_seconds is not None and self.report.payments_per_minute is not None
        settle_seconds = 0.0 if must_be_final else OTHERS_SETTLE_SECONDS
        audited = await self._client.audit_until_clean(
            GIVE_UP_AFTER_SECONDS, settle_seconds, journal=self._accepted_ids
        )
        self.report.audit = audited.as_json()


@asynccontextmanager
async def on_own_system(
    report: SaleReport, directory: Path, progress: Callable[[str], None]
) -> AsyncIterator[FlashSale]:
    """On a system with a private broker, which pays at the report's pace; nothing of it runs after the block.

    Raises LaunchError.
    """
    pace = paced(report.payments_per_minute) if report.payments_per_minute else {}
    async with (
        launch(directory, environment={**private_settings(), **pace}, progress=progress) as system,
        connected(SystemAddresses.of(system.environment)) as client,
    ):
        yield FlashSale(report, client, system.environment, directory / ACCEPTED_IDS)


@asynccontextmanager
async def on_running_system(
    report: SaleReport, directory: Path, environment_file: Path | None
) -> AsyncIterator[FlashSale]:
    """On the system that the file, or else the environment, has the addresses of. Raises NotRunning."""
    environment, _ = find_environment(environment_file)
    async with connected(find_system(environment_file)) as client:
        yield FlashSale(report, client, environment, directory / ACCEPTED_IDS)


def processor_seconds(environment: Mapping[str, str | None]) -> dict[str, float]:
    """What this machine's processes and their children have taken so far, by name; one that has ended is left out.

    `environment` names processes as `.run/environment` does, such as `<NAME>_PID`.
    """
    pids = {
        name.removesuffix("_PID").lower(): int(value)
        for name, value in environment.items()
        if name.endswith("_PID") and value and value.isdecimal()
    } | {"control_room": os.getpid()}
    found = {name: _processor_seconds(pid) for name, pid in pids.items()}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def _processor_seconds(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        children = [] if pid == os.getpid() else process.children(recursive=True)
        return sum(times.user + times.system for times in (each.cpu_times() for each in (process, *children)))
    except psutil.Error:
        return None

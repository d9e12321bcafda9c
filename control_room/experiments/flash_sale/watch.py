"""Looks at a running system during a sale: what its services count, and what their processes cost."""

import asyncio
import os
import time
from collections.abc import Mapping

import httpx
import psutil
from prometheus_client.samples import Sample

from control_room.experiments.flash_sale.rail import Look
from control_room.operations.addresses import SystemAddresses
from control_room.operations.replicas import Total, parsed, replicas
from shared.management import Management, ManagementError

LOOK_SECONDS = 1.0
ACCEPTED = "order_rail_orders_accepted_total"
OUTBOX = "order_rail_outbox_pending"
SETTLED = "order_rail_deliveries_settled_total"
CHARGE_QUEUE = "payment_service.charge"
ANSWERED = ("ack", "deadletter")
"""Outcomes of a delivery after which its order waits no longer; a retry comes back."""

UNREACHABLE = (httpx.HTTPError, ManagementError, OSError, ValueError)


class Watch:
    """Looks once a second, for as long as `follow` runs. `looks` begin with the first one, at the sale's beginning."""

    def __init__(self, addresses: SystemAddresses, http: httpx.AsyncClient, management: Management) -> None:
        self.looks: list[Look] = []
        self._addresses, self._http, self._management = addresses, http, management
        self._accepted, self._paid = Total(), Total()
        self._before = (0.0, 0.0)
        self._began_at = 0.0

    async def begin(self) -> None:
        """Count from now on. Raises one of UNREACHABLE."""
        await self._count()
        self._before = (self._accepted.total, self._paid.total)
        self._began_at = time.monotonic()
        await self.look()

    async def look(self) -> None:
        """Look now. Raises one of UNREACHABLE."""
        self.looks.append(await self._look())

    async def follow(self) -> None:
        """Look, until cancelled. A service that does not answer is asked again a second later."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except UNREACHABLE:
                continue

    async def _look(self) -> Look:
        order_service = await self._count()
        seconds = time.monotonic() - self._began_at
        queue = await self._management.find("queues", self._management.vhost, CHARGE_QUEUE) or {}
        return Look(
            seconds=seconds,
            accepted=round(self._accepted.total - self._before[0]),
            paid=round(self._paid.total - self._before[1]),
            # Replicas share one outbox, and each counts all of it.
            in_outbox=round(max((each.value for each in order_service if each.name == OUTBOX), default=0)),
            in_queue=queue.get("messages", 0),
        )

    async def _count(self) -> list[Sample]:
        """Bring the totals up to date; returns what the order service said."""
        order_service = await self._samples("order_service")
        self._accepted.see(sum(each.value for each in order_service if each.name == ACCEPTED))
        self._paid.see(sum(each.value for each in await self._samples("payment_service") if _is_answered(each)))
        return order_service

    async def _samples(self, service: str) -> list[Sample]:
        """What every replica counts."""
        pages = [await self._http.get(f"{url}/metrics") for url in await replicas(self._addresses.services[service])]
        return [sample for page in pages for sample in parsed(page.raise_for_status().text)]


def _is_answered(sample: Sample) -> bool:
    is_charge = sample.name == SETTLED and sample.labels.get("queue") == CHARGE_QUEUE
    return is_charge and sample.labels.get("outcome") in ANSWERED


class Processors:
    """The processor time of processes of this machine and their children, by name; none for those elsewhere."""

    def __init__(self, environment: Mapping[str, str | None]) -> None:
        """`environment` names processes as `.run/environment` does: `ORDER_SERVICE_PID` and its kin."""
        self._pids = {
            name.removesuffix("_PID").lower(): int(value)
            for name, value in environment.items()
            if name.endswith("_PID") and value and value.isdecimal()
        } | {"control_room": os.getpid()}

    def seconds(self) -> dict[str, float]:
        """So far. A process that has ended is left out."""
        found = {name: _processor_seconds(pid) for name, pid in self._pids.items()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}


def _processor_seconds(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        family = [process] if pid == os.getpid() else [process, *process.children(recursive=True)]
        return sum(_own_seconds(each) for each in family)
    except psutil.Error:
        return None


def _own_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)

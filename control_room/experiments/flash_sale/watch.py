"""What a running system counts during a sale, once a second, and the processor time of its processes."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import httpx
import psutil
from prometheus_client.samples import Sample

from control_room.experiments.flash_sale.rail import Look
from control_room.operations.addresses import SystemAddresses
from control_room.operations.replicas import Total, parsed, replicas
from control_room.operations.roles import CHARGE, ORDERS, PAYMENTS
from shared.management import Management, ManagementError

LOOK_SECONDS = 1.0
ACCEPTED = "order_rail_orders_accepted_total"
OUTBOX = "order_rail_outbox_pending"
SETTLED = "order_rail_deliveries_settled_total"
PAID_OUTCOMES = ("ack", "deadletter")
"""Outcomes of a delivery after which its order is out of the backlog; a retry comes back."""

UNREACHABLE = (httpx.HTTPError, ManagementError, OSError, ValueError)


class RailWatch:
    """Looks once a second, for as long as `follow` runs. `looks` begin with the first one, at the sale's beginning."""

    def __init__(self, addresses: SystemAddresses, http: httpx.AsyncClient, management: Management) -> None:
        self.looks: list[Look] = []
        self._urls, self._http, self._management = addresses.services, http, management
        self._accepted, self._paid = Total(), Total()
        self._accepted_before, self._paid_before = 0.0, 0.0
        self._began_at = 0.0

    async def begin(self) -> None:
        """Count from now on. Raises one of UNREACHABLE."""
        await self._count()
        self._accepted_before, self._paid_before = self._accepted.total, self._paid.total
        self._began_at = time.monotonic()
        await self.look()

    async def look(self) -> None:
        """Look now. Raises one of UNREACHABLE."""
        in_outbox = await self._count()
        seconds = time.monotonic() - self._began_at
        queue = await self._management.find("queues", self._management.vhost, CHARGE) or {}
        accepted = round(self._accepted.total - self._accepted_before)
        paid = round(self._paid.total - self._paid_before)
        self.looks.append(Look(seconds, accepted, paid, in_outbox, queue.get("messages", 0)))

    async def follow(self) -> None:
        """Look, until cancelled. A service that does not answer is asked again a second later."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(*UNREACHABLE):
                await self.look()

    async def _count(self) -> int:
        """Bring the totals up to date; returns how many events are in the outbox."""
        orders, payments = await self._samples(ORDERS.name), await self._samples(PAYMENTS.name)
        self._accepted.see(sum(each.value for each in orders if each.name == ACCEPTED))
        self._paid.see(sum(each.value for each in payments if _is_paid(each)))
        # Replicas share one outbox, and each counts all of it.
        return round(max((each.value for each in orders if each.name == OUTBOX), default=0))

    async def _samples(self, service: str) -> list[Sample]:
        """What every replica counts."""
        pages = [await self._http.get(f"{url}/metrics") for url in await replicas(self._urls[service])]
        return [sample for page in pages for sample in parsed(page.raise_for_status().text)]


def _is_paid(sample: Sample) -> bool:
    labels = sample.labels
    return sample.name == SETTLED and labels.get("queue") == CHARGE and labels.get("outcome") in PAID_OUTCOMES


def processors(environment: Mapping[str, str | None]) -> Callable[[], dict[str, float]]:
    """What returns the processor seconds so far of this machine's processes and their children, by name.

    `environment` names processes as `.run/environment` does, such as `<NAME>_PID`. One that has ended is left
    out.
    """
    pids = {
        name.removesuffix("_PID").lower(): int(value)
        for name, value in environment.items()
        if name.endswith("_PID") and value and value.isdecimal()
    } | {"control_room": os.getpid()}

    def seconds() -> dict[str, float]:
        found = {name: _processor_seconds(pid) for name, pid in pids.items()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}

    return seconds


def _processor_seconds(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        children = [] if pid == os.getpid() else process.children(recursive=True)
        return sum(times.user + times.system for times in (each.cpu_times() for each in (process, *children)))
    except psutil.Error:
        return None

"""What a running system counts during a sale, once a second, and the processor time of its processes."""

import os
import time
from collections.abc import Mapping

import psutil

from control_room.experiments.client import Client, sum_of
from control_room.experiments.flash_sale.rail import Look
from control_room.operations.replicas import Total
from control_room.operations.roles import CHARGE, ORDERS, PAYMENTS

ACCEPTED = "order_rail_orders_accepted_total"
OUTBOX = "order_rail_outbox_pending"
SETTLED = "order_rail_deliveries_settled_total"
PAID_OUTCOMES = ("ack", "deadletter")
"""Outcomes of a delivery after which its order is out of the backlog; a retry comes back."""


class RailWatch:
    """The sale begins with the first call of `look`; each further one adds to `looks`."""

    def __init__(self, client: Client, looks: list[Look]) -> None:
        self._client, self._looks = client, looks
        self._accepted, self._paid = Total(), Total()
        self._began_at: float | None = None

    async def look(self) -> None:
        """Count what has happened since the first call. Raises one of UNREACHABLE."""
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
        self._looks.append(Look(seconds, *map(round, counts)))


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

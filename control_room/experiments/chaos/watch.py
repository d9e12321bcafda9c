"""The system seen from outside while it runs: which orders are still open, what services count, how big they grow."""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from uuid import UUID

import psutil

from control_room.experiments.client import DUPLICATES, Client
from control_room.operations.replicas import Total, sum_of
from control_room.operations.roles import FINAL_OR_STALLED, ORDERS, TAKEN_BACK

PAGE_ORDERS = 100
SWEPT = "order_rail_orders_swept_total"
WARM_AFTER_SECONDS = 60.0
"""Until then a service fills its caches and pools, and grows."""
MEMORY_WINDOW_SECONDS = 60.0


class OpenOrders:
    """Accepted orders that are not known to be final or stalled.

    An order whose cancellation was accepted is open until it is taken back, though it may have been final before.
    """

    def __init__(self) -> None:
        self._accepted_at: dict[str, float] = {}
        self._called_off: set[str] = set()
        self.closed = 0
        self.last_confirmed_at = float("-inf")
        """When the latest of the orders that are known to be confirmed was accepted."""

    def add(self, order_id: str, accepted_at: float) -> None:
        """A new order; `accepted_at` is on the clock of `time.monotonic`."""
        self._accepted_at[order_id] = accepted_at

    def call_off(self, order_id: str) -> None:
        """The cancellation of an order was accepted."""
        self._called_off.add(order_id)
        if order_id not in self._accepted_at:
            self._accepted_at[order_id] = float("-inf")
            self.closed -= 1

    def __len__(self) -> int:
        return len(self._accepted_at)

    @property
    def ids(self) -> set[str]:
        """They are UUIDv7: their order is the order of time."""
        return set(self._accepted_at)

    def see(self, order_id: str, status: str) -> None:
        """An order has this status now."""
        ends = TAKEN_BACK if order_id in self._called_off else FINAL_OR_STALLED
        if status not in ends or (accepted_at := self._accepted_at.pop(order_id, None)) is None:
            return
        self.closed += 1
        if status == "confirmed":
            self.last_confirmed_at = max(self.last_confirmed_at, accepted_at)


@dataclass
class Memory:
    """The resident memory of one service: `measured` in bytes, and when on the clock of `time.monotonic`."""

    measured: list[tuple[float, int]] = field(default_factory=list)

    @property
    def warm(self) -> int:
        """What it held in the minute after its warm-up; 0 before that."""
        return self._held(self.measured[0][0] + WARM_AFTER_SECONDS)

    @property
    def last(self) -> int:
        """What it held in the latest minute."""
        return self._held(self.measured[-1][0] - MEMORY_WINDOW_SECONDS)

    @property
    def growth(self) -> float | None:
        """As a fraction of what it was after warm-up; None in a run too short for that."""
        return self.last / self.warm - 1 if self.warm else None

    def _held(self, since: float) -> int:
        """The most in a minute, a quarter of it left out: what a few large messages took for a moment is no growth."""
        sizes = sorted(size for at, size in self.measured if 0 <= at - since <= MEMORY_WINDOW_SECONDS)
        return sizes[-1 - len(sizes) // 4] if sizes else 0


@dataclass
class Seen:
    """What was seen of a system from outside so far."""

    orders: OpenOrders = field(default_factory=OpenOrders)
    memory: dict[str, Memory] = field(default_factory=lambda: defaultdict(Memory))
    """Of each service."""
    totals: dict[tuple[str, str], Total] = field(default_factory=lambda: defaultdict(Total))
    """By metric and service."""

    @property
    def duplicates(self) -> int:
        """Deliveries whose work was found done, over all services so far."""
        return self._total(DUPLICATES)

    @property
    def swept(self) -> int:
        """Orders whose event the sweep has re-emitted so far."""
        return self._total(SWEPT)

    def _total(self, metric: str) -> int:
        return int(sum(total.total for (name, _), total in self.totals.items() if name == metric))


async def look_at_orders(client: Client, orders: OpenOrders) -> None:
    """See how each open order is: the list, newest first, down to the oldest open one. Raises one of UNREACHABLE."""
    after = _just_after(max(orders.ids)) if orders.ids else None
    url = f"{client.addresses.services[ORDERS.name]}/orders"
    while after and orders.ids and after > min(orders.ids):
        answer = await client.http.get(url, params={"limit": str(PAGE_ORDERS), "after": after})
        page = answer.raise_for_status().json()
        for order in page["orders"]:
            orders.see(order["order_id"], order["status"])
        after = page["next"]


def _just_after(order_id: str) -> str:
    """A cursor for the list of orders that this one comes directly behind."""
    return str(UUID(int=UUID(order_id).int + 1))


async def look_at_service(client: Client, service: str, pid: int | None, seen: Seen) -> None:
    """Measure the memory of a service if it is a process here, and read its counters. Raises one of UNREACHABLE."""
    if pid is not None:
        try:
            resident = psutil.Process(pid).memory_info().rss
        except psutil.Error:  # it has just died
            return
        seen.memory[service].measured.append((time.monotonic(), resident))
    samples = await client.samples(service)
    for metric in (DUPLICATES, SWEPT):
        seen.totals[metric, service].see(sum_of(samples, metric))

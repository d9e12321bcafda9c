"""The system seen from outside while it runs: which orders are still open, what services count, how big they grow."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import psutil

from control_room.experiments.client import unready
from control_room.operations.replicas import Total, samples
from control_room.operations.roles import FINAL_OR_STALLED, ORDERS

LOOK_SECONDS = 0.5
MEASURE_SECONDS = 1.0
PAGE_ORDERS = 100
DUPLICATES = "order_rail_duplicate_deliveries_total"
SWEPT = "order_rail_orders_swept_total"
WARM_AFTER_SECONDS = 60.0
"""Until then a service fills its caches and pools, and grows."""
MEMORY_WINDOW_SECONDS = 60.0
UNREACHABLE = (httpx.HTTPError, OSError, ValueError, KeyError)


class OpenOrders:
    """Accepted orders that are not known to be final or stalled."""

    def __init__(self) -> None:
        self._accepted_at: dict[str, float] = {}
        self.closed = 0
        self.last_confirmed_at = float("-inf")
        """When the latest of the orders that are known to be confirmed was accepted."""

    def add(self, order_id: str, accepted_at: float) -> None:
        """A new order; `accepted_at` is on the clock of `time.monotonic`."""
        self._accepted_at[order_id] = accepted_at

    def __len__(self) -> int:
        return len(self._accepted_at)

    @property
    def ids(self) -> set[str]:
        """They are UUIDv7: their order is the order of time."""
        return set(self._accepted_at)

    def see(self, order_id: str, status: str) -> None:
        """An order has this status now."""
        if status not in FINAL_OR_STALLED or (accepted_at := self._accepted_at.pop(order_id, None)) is None:
            return
        self.closed += 1
        if status == "confirmed":
            self.last_confirmed_at = max(self.last_confirmed_at, accepted_at)


@dataclass
class Memory:
    """The resident memory of one service in bytes, over all its processes.

    `warm`: the most in the minute after its warm-up, 0 before that; `last`: the most in the latest minute.
    """

    began_at: float = 0.0
    warm: int = 0
    last: int = 0
    _lately: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def growth(self) -> float | None:
        """As a fraction of what it was after warm-up; None in a run too short for that."""
        return self.last / self.warm - 1 if self.warm else None

    def measure(self, resident: int, now: float) -> None:
        self._lately.append((now, resident))
        while self._lately[0][0] < now - MEMORY_WINDOW_SECONDS:
            self._lately.popleft()
        self.last = max(resident for _, resident in self._lately)
        if WARM_AFTER_SECONDS <= now - self.began_at < WARM_AFTER_SECONDS + MEMORY_WINDOW_SECONDS:
            self.warm = max(self.warm, resident)


@dataclass
class Watch:
    """Looks at a system for as long as `run` runs. `urls` are the services'."""

    urls: Mapping[str, str]
    http: httpx.AsyncClient
    orders: OpenOrders = field(default_factory=OpenOrders)
    memory: dict[str, Memory] = field(default_factory=dict)
    """Of each service."""
    _totals: dict[tuple[str, str], Total] = field(default_factory=lambda: defaultdict(Total))

    @property
    def duplicates(self) -> int:
        """Deliveries whose work was found done, over all services so far."""
        return self._total(DUPLICATES)

    @property
    def swept(self) -> int:
        """Orders whose event the sweep has re-emitted so far."""
        return self._total(SWEPT)

    async def follow_orders(self) -> None:
        """Keep `orders` up to date, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look_at_orders()
            except UNREACHABLE:  # a fault keeps it from answering
                continue

    async def look_at_orders(self) -> None:
        """See how each open order is: the list, newest first, without the stretches where none is open."""
        seen_to: str | None = None
        for order_id in sorted(self.orders.ids, reverse=True):
            if seen_to is None or order_id < seen_to:
                seen_to = await self._look_at_page(_just_after(order_id))
            if seen_to is None:
                return

    async def _look_at_page(self, after: str) -> str | None:
        """See the orders that are older than `after`; the id of the last of them, None if there are no more."""
        query = {"limit": str(PAGE_ORDERS), "after": after}
        answer = await self.http.get(f"{self.urls[ORDERS.name]}/orders", params=query)
        page = answer.raise_for_status().json()
        for order in page["orders"]:
            self.orders.see(order["order_id"], order["status"])
        following: str | None = page["next"]
        return following

    async def follow_metrics(self) -> None:
        """Keep the totals of counters, until cancelled."""
        while True:
            for service, url in self.urls.items():
                for metric in (DUPLICATES, SWEPT):
                    try:
                        value = sum(await samples(self.http, url, metric))
                    except UNREACHABLE:
                        continue
                    self._totals[metric, service].see(value)
            await asyncio.sleep(MEASURE_SECONDS)

    def measure_memory(self, pids: Mapping[str, int]) -> None:
        """Look at the services' processes."""
        now = time.monotonic()
        for service, pid in pids.items():
            try:
                resident = psutil.Process(pid).memory_info().rss
            except psutil.Error:  # it has just died
                continue
            self.memory.setdefault(service, Memory(now)).measure(resident, now)

    async def unready(self) -> dict[str, str]:
        """What keeps each service from being ready, by its name; empty if all are."""
        return await unready(self.http, self.urls)

    def _total(self, metric: str) -> int:
        return int(sum(total.total for (name, _), total in self._totals.items() if name == metric))


def _just_after(order_id: str) -> str:
    """A cursor for the list of orders that this one comes directly behind."""
    return str(UUID(int=UUID(order_id).int + 1))

"""What a quest is: tasks for a viewer, what shows that each is done, and the audit that judges the orders."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.snapshots.snapshot import NOT_LOOKED, NOT_RUNNING, SILENT, Snapshot
from control_room.experiments.client import UNREACHABLE, Client, connected
from control_room.experiments.scenarios import Outcome
from control_room.experiments.scenarios.runner import FAILURES, why
from control_room.experiments.scenarios.scenario import Playing
from control_room.experiments.traffic import Unexpected
from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit import AuditImpossible
from control_room.operations.roles import FINAL_OR_STALLED
from control_room.text import counted
from shared.waiting import poll

LOOK_SECONDS, JUDGED_WITHIN_SECONDS = 1.0, 60.0
STOPPED = {NOT_RUNNING, SILENT}
"""A service that waits for RabbitMQ has other problems: it was not stopped."""
PAGE_LENGTH = 100
MOST_ORDERS = 2_000
"""A quest looks at each of its orders every second."""


@dataclass
class Seen:
    """What has happened since a quest began; times are in seconds since 1970.

    `orders`: those placed since then, by id, as the order service lists them. `stopped`: the names of what did not run
    while an order was under way. `highest`: the largest backlog; `full_at`: when it was last that large, and
    `empty_at`: when nothing was left of it, 0 before. `dead_letters`: how many more there were than at the beginning.
    """

    latest: Snapshot
    first: Snapshot
    orders: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    highest: int = 0
    full_at: float = 0.0
    empty_at: float = 0.0
    dead_letters: int = 0

    @property
    def open_orders(self) -> int:
        """How many orders the services still work on."""
        return sum(order["status"] not in FINAL_OR_STALLED for order in self.orders.values())

    @property
    def is_over(self) -> bool:
        """Whether everything runs and no order is under way."""
        return not self.open_orders and not self.latest.problems

    def see(self, snapshot: Snapshot, orders: Mapping[str, Mapping[str, Any]], held: Iterable[str]) -> None:
        """Add how the system and the orders are now. `held`: the services that are kept from working on purpose."""
        were_open = self.open_orders
        self.latest = snapshot
        self.orders.update(orders)
        self.dead_letters = max(self.dead_letters, snapshot.dead_letters - self.first.dead_letters)
        if were_open or self.open_orders:
            self.stopped.update(held, self._not_running())
        if snapshot.backlog and snapshot.backlog >= self.highest:
            self.highest, self.full_at, self.empty_at = snapshot.backlog, snapshot.at, 0.0
        elif not snapshot.backlog and self.highest and not self.empty_at:
            self.empty_at = snapshot.at

    def _not_running(self) -> Iterator[str]:
        if self.latest.broker_problem not in ("", NOT_LOOKED):
            yield "RabbitMQ"
        for service in self.latest.services.values():
            if not STOPPED.isdisjoint(service.problems) or service.restarted_at > self.first.at:
                yield service.name


@dataclass(frozen=True)
class Task:
    """`words` tell the viewer what to do."""

    words: str
    is_done: Callable[[Seen], object]


class NoHelp(Exception):
    """A button could not do its part; the message says why."""


@dataclass(frozen=True)
class Help:
    """A button that does a part of a task for the viewer. `act` returns what it did, a sentence; raises Unexpected."""

    label: str
    act: Callable[[Client], Awaitable[str]]

    async def give(self, addresses: SystemAddresses) -> str:
        """Do it on that system, and say so in a sentence. Raises NoHelp."""
        try:
            async with connected(addresses) as client:
                return await self.act(client)
        except FAILURES as error:
            raise NoHelp(why(error, addresses)) from None


@dataclass(frozen=True)
class Quest:
    """`dare`: what the viewer is challenged to do.

    `expected`: what should come of it. `achieved`: the same as it was seen; raises Unexpected if that is not enough.
    """

    name: str
    title: str
    dare: str
    tasks: tuple[Task, ...]
    helps: tuple[Help, ...]
    expected: str
    achieved: Callable[[Seen], str]
    limit_seconds: float = 1800.0

    async def play(self, playing: Playing) -> Outcome:
        """Watch until every task is done; then the audit judges the orders. Raises what its calls raise."""
        snapshot, control, client = playing.target.snapshot, playing.target.control, playing.client
        if snapshot is None:
            raise ValueError("nobody watches the system")
        services = client.addresses.services
        page = await client.newest_orders(1)
        newest = page["orders"][0]["order_id"] if page["orders"] else ""
        seen, orders = Seen(snapshot(), snapshot()), dict[str, Mapping[str, Any]]()
        for number, task in enumerate(self.tasks, start=1):
            while not task.is_done(seen):
                playing.say(f"task {number} of {len(self.tasks)}, {counted(len(seen.orders), 'order')} so far")
                await asyncio.sleep(LOOK_SECONDS)
                with suppress(*UNREACHABLE):  # the viewer may have killed what lists them
                    orders = await _orders_after(client, newest)
                held = [each for each in services if control and control.state(each) is not ProcessState.RUNNING]
                seen.see(snapshot(), orders, held)
        playing.say("the audit compares all records of these orders")
        try:
            achieved = self.achieved(seen)
            judgement = await poll(
                lambda: playing.audited(list(seen.orders)),
                within_seconds=JUDGED_WITHIN_SECONDS,
                every_seconds=LOOK_SECONDS,
                not_yet=(AuditImpossible,),  # the viewer stops something even now
            )
        except Unexpected as error:
            return Outcome(self.expected, str(error), held=False)
        return Outcome(self.expected, f"{achieved}; {judgement}", held=True)


async def _orders_after(client: Client, order_id: str) -> dict[str, Mapping[str, Any]]:
    """The orders placed after that one, by id. Raises Unexpected if they are too many."""
    found: dict[str, Mapping[str, Any]] = {}
    after: str | None = ""
    while after is not None:
        page = await client.newest_orders(PAGE_LENGTH, after)
        new = {order["order_id"]: order for order in page["orders"] if order["order_id"] > order_id}
        found.update(new)
        after = page["next"] if len(new) == PAGE_LENGTH else None
        if len(found) > MOST_ORDERS:
            raise Unexpected(f"there are more than {MOST_ORDERS:,} orders: begin again, with fewer")
    return found

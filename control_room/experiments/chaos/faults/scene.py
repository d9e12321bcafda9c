"""What a fault can get hold of, and how it says that it really happened."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.experiments.chaos.watch import UNREACHABLE, Watch
from control_room.experiments.chaos.wire import Proxy
from control_room.launcher.broker import PrivateBroker
from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.system import System
from control_room.operations.replicas import NO_LABELS
from shared.management import Management, ManagementError

HEARTBEAT_SECONDS = 3
"""Of the services' connections in a chaos run. RabbitMQ closes a connection that is silent for two of them."""
PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.1
NOT_YET = (ManagementError, *UNREACHABLE)

Seen = TypeVar("Seen")


class NoEvidence(Exception):
    """The fault can't be shown to have happened; the message says what was expected to be seen."""


@dataclass
class Marks:
    """What a fault leaves behind: when it began and ended (on the clock of `time.monotonic`) and its evidence."""

    evidence: list[str] = field(default_factory=list)
    began_at: float = 0.0
    ended_at: float | None = None
    on_end: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """It falls now."""
        self.began_at = time.monotonic()

    def end(self) -> None:
        """It is over: from here on the system should recover. The first call counts."""
        if self.ended_at is None:
            self.ended_at = time.monotonic()
            self.on_end()

    def saw(self, what: str) -> None:
        """Evidence, in a sentence."""
        self.evidence.append(what)


@dataclass
class Scene:
    """A running system with all that a fault can touch."""

    system: System
    broker: PrivateBroker
    wire: Proxy
    """Between the services and the broker."""
    watch: Watch
    management: Management
    queue_put_back_at: float = float("-inf")
    """On the clock of `time.monotonic`: a broker killed soon after that may lose the queue."""

    def process(self, service: str) -> SupervisedProcess:
        return self.system.processes[service]

    async def until(
        self, look: Callable[[], Awaitable[Seen]], expecting: str, patience_seconds: float = PATIENCE_SECONDS
    ) -> Seen:
        """What `look` returns once that is true; it may fail meanwhile as calls do. Raises NoEvidence."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                if seen := await look():
                    return seen
            except NOT_YET:
                pass
            if time.monotonic() > deadline:
                raise NoEvidence(f"{expecting}: not seen within {patience_seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)

    async def orders_in_flight(self) -> str:
        """A sentence about the orders in flight now; waits until there are some."""

        async def count() -> int:
            return len(self.watch.orders)

        return f"{await self.until(count, 'orders in flight')} orders in flight"

    async def counter(self, service: str, metric: str, labels: Mapping[str, str] = NO_LABELS) -> float:
        """A counter of a service, as soon as it answers."""

        async def read() -> tuple[float]:
            return (await self.watch.metric(service, metric, labels),)

        return (await self.until(read, f"{service} to answer /metrics"))[0]

    async def until_counted(
        self,
        service: str,
        metric: str,
        labels: Mapping[str, str],
        at_least: float,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> float:
        """Wait until a counter has come so far; its value."""

        async def look() -> float:
            value = await self.watch.metric(service, metric, labels)
            return value if value >= at_least else 0

        expecting = f"{metric}{labels} of {service} at {at_least:g}"
        return await self.until(look, expecting, patience_seconds)

    async def until_unready(self, *words: str) -> str:
        """Wait until every service says that it is not ready, with one of these words; a sentence about it."""

        async def look() -> bool:
            problems = await self.watch.unready()
            told = [problem for problem in problems.values() if any(word in problem for word in words)]
            return len(told) == len(self.system.processes)

        await self.until(look, f"every service to say {' or '.join(words)} in /readyz")
        return "every service said in /readyz that it was not ready"


@dataclass(frozen=True)
class Fault:
    """A kind of fault, what it does in a sentence, and the function that carries it out.

    `fall` calls `marks.begin` when it falls and `marks.end` when it is over, in any case, and leaves evidence in
    `marks`. It raises NoEvidence. `missing` says what this machine lacks for it, nothing if it can fall here.
    """

    kind: Kind
    meaning: str
    fall: Callable[[Scene, Fall, Marks], Awaitable[None]]
    missing: Callable[[], str] = lambda: ""

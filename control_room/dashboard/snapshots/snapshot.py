"""The state of the whole system at one moment. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from control_room.dashboard.process_control import ProcessState
from control_room.operations.roles import CHARGE, EMAIL, ORDERS, PAYMENTS
from shared import contract


@dataclass(frozen=True)
class QueueView:
    """A queue with its retry queues and its dead letters. `per_second`: deliveries settled by its consumers.

    `waiting`: ready for delivery. `in_work`: delivered and not settled. `retrying`: in the retry queues.
    """

    name: str
    exists: bool = False
    waiting: int = 0
    in_work: int = 0
    consumers: int = 0
    retrying: int = 0
    dead: int = 0
    per_second: float = 0.0

    @property
    def depth(self) -> int:
        """Messages that are not handled yet."""
        return self.waiting + self.in_work + self.retrying

    @property
    def problem(self) -> str:
        """Why no message is handled; empty if nothing is wrong."""
        if not self.exists:
            return "the queue is missing"
        return "" if self.consumers else "nobody takes from it"


@dataclass(frozen=True)
class ServiceView:
    """A service as it reports itself. `outbox`: events that are committed and not yet confirmed by the broker.

    `process`: the effect of the commands that it has received; see `exchange.py` in `process_control`. `degraded`: for
    each outside system that fails, since when and why; work for it waits.
    """

    name: str
    replicas: int = 0
    problems: tuple[str, ...] = ("not looked yet",)
    outbox: int = 0
    process: ProcessState = ProcessState.RUNNING
    degraded: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        return self.replicas > 0 and not self.problems


@dataclass(frozen=True)
class Snapshot:
    """Rates are per second, over the last seconds; `at` is in seconds since 1970.

    `broker_problem` says why the queues' counts are out of date; empty if they are not. `seconds_left`: until the
    backlog is gone; None if it does not shrink.
    """

    at: float = 0.0
    services: Mapping[str, ServiceView] = field(
        default_factory=lambda: {service.name: ServiceView(service.name) for service in contract.services()}
    )
    queues: Mapping[str, QueueView] = field(
        default_factory=lambda: {name: QueueView(name) for name in contract.queues()}
    )
    exchanges: frozenset[str] = frozenset(contract.exchanges())
    broker_problem: str = "not looked yet"
    accepted: float = 0.0
    paid: float = 0.0
    notified: float = 0.0
    seconds_left: float | None = 0.0

    @cached_property
    def backlog(self) -> int:
        """Accepted orders whose customer has not been notified yet: they wait in two outboxes and two queues."""
        outboxes = sum(self.services[each.name].outbox for each in (ORDERS, PAYMENTS))
        return outboxes + self.queues[CHARGE].depth + self.queues[EMAIL].depth

    @property
    def dead_letters(self) -> int:
        """In all queues."""
        return sum(queue.dead for queue in self.queues.values())

    @property
    def problems(self) -> list[str]:
        """A sentence for each problem."""
        found = [f"RabbitMQ: {self.broker_problem}"] if self.broker_problem else []
        for service in self.services.values():
            found += [f"{service.name}: {problem}" for problem in service.problems]
        if not self.broker_problem:
            found += [f"{queue.name}: {queue.problem}" for queue in self.queues.values() if queue.problem]
            found += [f"exchange {name} is missing" for name in contract.exchanges() if name not in self.exchanges]
        return found

    @property
    def degraded(self) -> list[str]:
        """A sentence for each outside system that fails, while the rest goes on."""
        return [f"{service.name}: {sentence}" for service in self.services.values() for sentence in service.degraded]

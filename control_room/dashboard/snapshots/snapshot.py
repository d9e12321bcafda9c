"""The state of the whole system at one moment. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.words import capital, phrase, plainly
from shared import contract

NOT_LOOKED = "not looked yet"
LOOKING = "Looking for the first time …"
NOT_RUNNING, SILENT = "it does not run", "it is there and does not answer"
"""Problems of a service."""
BROKER_DOWN, BROKER_SILENT = "it is down", "it does not answer"
"""Problems of a broker: its management API takes no connection, or gives no answer."""


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
    each outside system that fails, since when and why; work for it waits. `restarted_at`: when it answered again after
    it had not run, in seconds since 1970; 0 if it has not been seen to.
    """

    name: str
    replicas: int = 0
    problems: tuple[str, ...] = (NOT_LOOKED,)
    outbox: int = 0
    process: ProcessState = ProcessState.RUNNING
    degraded: tuple[str, ...] = ()
    restarted_at: float = 0.0

    @property
    def is_ready(self) -> bool:
        return self.replicas > 0 and not self.problems


@dataclass(frozen=True)
class Snapshot:
    """`rates` of the stages, by label, are per second, over the last seconds; `at` is in seconds since 1970.

    `broker_problem` says why the queues' counts are out of date; empty if they are not. `seconds_left`: until the
    backlog is gone; None if it does not shrink. `broken_since`: since when not everything runs, in seconds since 1970;
    0 if everything does.
    """

    at: float = 0.0
    services: Mapping[str, ServiceView] = field(
        default_factory=lambda: {service.name: ServiceView(service.name) for service in contract.services()}
    )
    queues: Mapping[str, QueueView] = field(
        default_factory=lambda: {name: QueueView(name) for name in contract.queues()}
    )
    exchanges: frozenset[str] = frozenset(contract.exchanges())
    broker_problem: str = NOT_LOOKED
    rates: Mapping[str, float] = field(default_factory=lambda: {stage.label: 0.0 for _, stage in contract.stages()})
    seconds_left: float | None = 0.0
    broken_since: float = 0.0

    @cached_property
    def backlog(self) -> int:
        """What is on its way to the last stage: in the outboxes before it, and in the queues of the stages."""
        before_the_last = {service.name for service, _ in contract.stages()[:-1]}
        outboxes = sum(self.services[name].outbox for name in before_the_last)
        queues = [service.queue_name(stage.queue) for service, stage in contract.stages() if stage.queue]
        return outboxes + sum(self.queues[name].depth for name in queues)

    @property
    def incoming(self) -> float:
        """What comes in from outside per second: the rates of the stages without a queue."""
        return sum(self.rates[stage.label] for _, stage in contract.stages() if not stage.queue)

    @property
    def outgoing(self) -> float:
        """What is done per second of what waits: the rates of the stages with a queue."""
        return sum(self.rates[stage.label] for _, stage in contract.stages() if stage.queue)

    @property
    def dead_letters(self) -> int:
        """In all queues."""
        return sum(queue.dead for queue in self.queues.values())

    @property
    def problems(self) -> list[str]:
        """A sentence for each problem: causes alone, and not what follows from them."""
        if self.broker_problem == NOT_LOOKED or any(NOT_LOOKED in each.problems for each in self.services.values()):
            return [LOOKING]
        found = [self._broker_sentence] if self.broker_problem else []
        for service in self.services.values():
            found += [_sentence(service.name, problem) for problem in service.problems if not self._follows(problem)]
        if not self.broker_problem:
            found += [_lack(queue) for queue in self.queues.values() if self._lacks(queue)]
            missing = [name for name in contract.exchanges() if name not in self.exchanges]
            found += [f"The exchange {name} is missing: order-rail topology apply creates it." for name in missing]
        return found

    @property
    def degraded(self) -> list[str]:
        """A sentence for each outside system that fails, while the rest goes on."""
        return [
            f"{capital(_failing(sentence))}: what {phrase(service.name)} has for it waits, and goes on by itself."
            for service in self.services.values()
            for sentence in service.degraded
        ]

    @property
    def _broker_sentence(self) -> str:
        if self.broker_problem == BROKER_SILENT:
            return "RabbitMQ does not answer: the counts of the queues are old."
        if self.broker_problem != BROKER_DOWN:
            return f"{self.broker_problem}."
        if any(service.is_ready for service in self.services.values()):
            return "RabbitMQ's management API is down: the counts of the queues are old."
        running = [stage for service, stage in contract.stages() if self._has_replicas(service.name)]
        return " ".join(["RabbitMQ is down.", *(stage.without_broker for stage in running if stage.without_broker)])

    def _has_replicas(self, service: str) -> bool:
        return service in self.services and self.services[service].replicas > 0

    def _follows(self, problem: str) -> bool:
        """Whether a service's problem follows from the broker's."""
        return bool(self.broker_problem) and "RabbitMQ" in problem

    def _lacks(self, queue: QueueView) -> bool:
        """Whether a queue has a problem that is not its consumer's."""
        consumer = self.services.get(contract.service_of(queue.name).name)
        return bool(queue.problem) and (not queue.exists or consumer is None or consumer.is_ready)


def failing_system(degraded: str) -> str:
    """The outside system of what a service reports: `the mail server, since 2026-...: it answers 421`."""
    return plainly(degraded.partition(", since ")[0])


def _failing(degraded: str) -> str:
    """The whole report as a clause."""
    since, _, why = degraded.partition(", since ")[2].partition(": ")
    return f"{failing_system(degraded)} has failed since {since} ({plainly(why)})" if why else plainly(degraded)


def _lack(queue: QueueView) -> str:
    if not queue.exists:
        return f"The queue {phrase(queue.name)} is missing: order-rail topology apply creates it."
    return f"{capital(phrase(contract.service_of(queue.name).name))} does not take from {phrase(queue.name)}."


def _sentence(service: str, problem: str) -> str:
    name = capital(phrase(service))
    if problem in (NOT_RUNNING, SILENT):
        return f"{name} {'does not run' if problem == NOT_RUNNING else 'does not answer'}."
    return f"{name}: {plainly(problem)}."

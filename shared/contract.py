"""What a service is to all others, as data: its name, port, exchange, events and queues.

A service's contract is `CONTRACT` in its `contract.py`, registered by an entry point of the group
`order_rail.services`. Topology, permissions, launcher, ports, addresses and dashboard derive from the
registered contracts.
"""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from shared.events import Event

GROUP = "order_rail.services"

CONTROL = "control"
"""The exchange that `shared/controls.py` listens to. It exists only where controls are enabled."""

KEY_HEADER = "key."
"""How the headers begin that carry the keys of partitioned queues."""

EVENTS = "events"
"""The stream that keeps a copy of every event for EVENTS_KEPT_HOURS."""

ATTEMPT_SECONDS = 20.0
SECOND_TRY_SECONDS = 1.0
"""Only a try that failed sooner than this is repeated within its attempt."""


class ContractError(SystemExit):
    """The registered contracts don't fit together, or a service does not keep to its own; the message says how.

    Nothing can run without them, so it ends a process with the message unless it is caught.
    """


@dataclass(frozen=True)
class Pattern:
    """Messages of `exchange` whose routing key, the event's type, matches the AMQP topic pattern `key`."""

    exchange: str
    key: str

    def matches(self, event_type: str) -> bool:
        """Whether a message of this type matches `key`."""
        words = re.escape(self.key).replace(r"\*", r"[^.]+").replace(r"\#", ".*")
        return re.fullmatch(words, event_type) is not None


@dataclass(frozen=True)
class RetryDelays:
    """Delays of a queue's own: the environment variable that sets them, their default in seconds, and why."""

    variable: str
    default_seconds: tuple[float, ...]
    description: str


@dataclass(frozen=True)
class Partitions:
    """A queue is `count` queues for RabbitMQ, `<queue>.0` and so on: in parallel across keys, in sequence within one.

    `key`: the field of its events that decides, such as `subject` or, deeper, `data.account.number`. Events
    without a value in it are in sequence with each other.
    """

    count: int
    key: str

    @property
    def header(self) -> str:
        """Of messages: it carries the key, since the broker looks into no message. Publishers set it."""
        return f"{KEY_HEADER}{self.key}"


@dataclass(frozen=True)
class QueueContract:
    """One queue of a service; with its service's name before it, such as `diary_service.work`, RabbitMQ's name.

    `takes`: event classes, in any version, and patterns for whole families. A binding ends in a version wildcard, so
    that an event of an unknown version is dead-lettered with that reason, and not returned to its publisher.
    `attempt_seconds`: the longest that one try at a message takes; its handler must keep to that. It stays below the
    30 minutes after which RabbitMQ takes back what is not acknowledged.
    `retry_delays`: None for those of RETRY_DELAYS_SECONDS.
    `partitions`: for events whose sequence matters; a retry then waits in place, and what is behind it in its key too.
    """

    name: str
    title: str
    takes: tuple[type[Event] | Pattern, ...]
    attempt_seconds: float = ATTEMPT_SECONDS
    retry_delays: RetryDelays | None = None
    partitions: Partitions | None = None


@dataclass(frozen=True)
class DatabaseContract:
    """A database that a service opens: `variable` holds its URL (after `scheme`), `name` is its file's and its user's.

    `label` is its name in metrics, `migrations` the package that holds its history.
    """

    variable: str
    name: str
    label: str
    migrations: str
    scheme: str = ""


@dataclass(frozen=True)
class Page:
    """A page for people that a service serves at `path`. `variable` tells the control room where browsers reach it.

    Without that variable it is the address at which the control room reaches the service.
    """

    title: str
    variable: str
    path: str = ""


@dataclass(frozen=True)
class Stage:
    """A step of the main path through all services, whose rate the control room shows.

    `does`: what is done so many times per second, such as `parcels sent`; `label`: the same on a chart. Counted is
    `counter`, a metric of the service, or what is taken from its `queue` and acknowledged, without duplicates.
    `without_broker`: a sentence on what of it goes on while RabbitMQ is down.
    """

    does: str
    label: str
    counter: str = ""
    queue: str = ""
    without_broker: str = ""


@dataclass(frozen=True)
class ServiceContract:
    """All facts about a service that others need. `name`: of its package, its broker user and its AMQP app id.

    `port`: services come in the sequence of their ports, so one whose events cause the work of others has the lowest.
    `outside`: environment variables with the addresses of outside systems that it may do without.
    `crash_points`: names of moments between two steps of the service's own work, each with the function that begins
    the second step, as `module:attribute`; fault tests kill the process there.
    """

    name: str
    title: str
    port: int
    exchange: str = ""
    publishes: tuple[type[Event], ...] = ()
    queues: tuple[QueueContract, ...] = ()
    further_databases: tuple[DatabaseContract, ...] = ()
    page: Page | None = None
    stages: tuple[Stage, ...] = ()
    outside: tuple[str, ...] = ()
    crash_points: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Of its database in metrics."""
        return self.exchange or self.name

    @property
    def databases(self) -> tuple[DatabaseContract, ...]:
        own = DatabaseContract("DATABASE_URL", self.name, self.label, f"{self.name}.migrations")
        return (own, *self.further_databases)

    @property
    def queue_names(self) -> tuple[str, ...]:
        """RabbitMQ's names of all its queues."""
        return tuple(name for queue in self.queues for name in self.names_of(queue))

    def names_of(self, queue: QueueContract) -> tuple[str, ...]:
        """RabbitMQ's name of the queue, or of each of its partitions."""
        name = self.queue_name(queue.name)
        return tuple(f"{name}.{n}" for n in range(queue.partitions.count)) if queue.partitions else (name,)

    def queue(self, name: str) -> QueueContract:
        """The queue with this short name. Raises `ContractError` if the contract has none."""
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise ContractError(f"{self.name} has no queue {name!r} in its contract, only {[q.name for q in self.queues]}")

    def queue_name(self, name: str) -> str:
        """RabbitMQ's name of the queue with this short name. Raises `ContractError` if the contract has none.

        The partitions of a queue have a number behind it; it is then the name of the exchange before them.
        """
        return f"{self.name}.{self.queue(name).name}"

    def variable(self, end: str) -> str:
        """An environment variable of this service, such as `DIARY_SERVICE_URL` for the end `URL`."""
        return f"{self.name}_{end}".upper()


@cache
def services() -> tuple[ServiceContract, ...]:
    """The registered services by port. Raises `ContractError` if none is, or two of them claim the same."""
    # By name: an editable installation may have its metadata twice.
    points = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if not points:
        raise ContractError(f"no service is registered (entry point {GROUP}); install the project again: make up")
    return checked(_loaded(point) for point in points.values())


def _loaded(point: importlib.metadata.EntryPoint) -> ServiceContract:
    try:
        contract = point.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and error.name == point.name:
            why += "; if the service was taken out, install the project again: make up"
        raise ContractError(f"{GROUP}: {point.name} = {point.value} can't be loaded: {why}") from error
    if not isinstance(contract, ServiceContract):
        raise ContractError(f"{GROUP}: {point.name} = {point.value} is no ServiceContract")
    return contract


def checked(contracts: Iterable[ServiceContract]) -> tuple[ServiceContract, ...]:
    """The contracts by port.

    Raises `ContractError` if two claim the same, one takes what nobody publishes, or a name can't be used.
    """
    ordered = tuple(sorted(contracts, key=lambda contract: contract.port))
    _expect_unique("name", (contract.name for contract in ordered))
    _expect_unique("port", (contract.port for contract in ordered))
    _expect_unique("exchange", (contract.exchange for contract in ordered if contract.exchange))
    _expect_unique("event type", (event.type_name() for contract in ordered for event in contract.publishes))
    for contract in ordered:
        _expect_usable(contract)
        _expect_unique("queue", contract.queue_names)
        for queue in contract.queues:
            patterns(queue, ordered)
    return ordered


def service(name: str) -> ServiceContract:
    """The registered service of this name. Raises `ContractError` if there is none."""
    for contract in services():
        if contract.name == name:
            return contract
    raise ContractError(f"no service {name!r} is registered, only {[contract.name for contract in services()]}")


def queues() -> dict[str, QueueContract]:
    """Every registered queue by RabbitMQ's name; each partition is one."""
    return {
        name: replace(queue, title=f"{queue.title}, {name.rpartition('.')[2]}") if queue.partitions else queue
        for contract in services()
        for queue in contract.queues
        for name in contract.names_of(queue)
    }


def service_of(queue_name: str) -> ServiceContract:
    """The service that consumes a queue, given RabbitMQ's name of it."""
    return service(queue_name.partition(".")[0])


def stages() -> tuple[tuple[ServiceContract, Stage], ...]:
    """The stages of all registered services, each with its service, in the sequence in which they are passed."""
    return tuple((contract, stage) for contract in services() for stage in contract.stages)


def exchanges() -> tuple[str, ...]:
    """Every exchange that a registered service publishes to."""
    return tuple(contract.exchange for contract in services() if contract.exchange)


def patterns(queue: QueueContract, contracts: Iterable[ServiceContract] | None = None) -> tuple[Pattern, ...]:
    """A queue's bindings. Raises `ContractError` for an event that no registered service publishes."""
    known = tuple(contracts) if contracts is not None else services()
    return tuple(
        taken if isinstance(taken, Pattern) else Pattern(publisher(taken, known).exchange, f"{taken.family()}.*")
        for taken in queue.takes
    )


def publisher(event: type[Event], contracts: Iterable[ServiceContract] | None = None) -> ServiceContract:
    """The registered service that publishes an event. Raises `ContractError` if none does."""
    for contract in contracts if contracts is not None else services():
        if event in contract.publishes:
            return contract
    raise ContractError(f"no registered service publishes {event.type_name()}")


def queues_taking(event: type[Event]) -> dict[str, QueueContract]:
    """Every registered queue, by RabbitMQ's name, whose contract names this event."""
    return {name: queue for name, queue in queues().items() if event in queue.takes}


def is_taken(event_type: str) -> bool:
    """Whether a registered queue takes events of this type, in any version."""
    return any(pattern.matches(event_type) for queue in queues().values() for pattern in patterns(queue))


@cache
def partitions_taking(event_type: str) -> tuple[Partitions, ...]:
    """The partitions of every registered queue that takes events of this type."""
    return tuple(
        queue.partitions
        for contract in services()
        for queue in contract.queues
        if queue.partitions and any(pattern.matches(event_type) for pattern in patterns(queue))
    )


def _expect_usable(contract: ServiceContract) -> None:
    exchange = [contract.exchange] if contract.exchange or contract.publishes else []
    for name in (contract.name, *exchange, *(queue.name for queue in contract.queues)):
        # A dot would end the service's name in the name of its queue; environment variables and packages have no dash.
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or name == CONTROL:
            raise ContractError(f"{contract.name}: {name!r} is no name; expected a-z, 0-9 and _, and not {CONTROL}")
    for delays in (queue.retry_delays for queue in contract.queues if queue.retry_delays):
        if not delays.variable.endswith("_RETRY_DELAYS_SECONDS"):
            raise ContractError(f"{contract.name}: {delays.variable} must end in _RETRY_DELAYS_SECONDS")
    for name in filter(None, (stage.queue for stage in contract.stages)):
        contract.queue(name)
    for queue in contract.queues:
        if queue.partitions:
            _expect_keys(contract.queue_name(queue.name), queue.partitions, queue.takes)


def _expect_keys(name: str, partitions: Partitions, takes: Iterable[type[Event] | Pattern]) -> None:
    if partitions.count < 1:
        raise ContractError(f"{name} has {partitions.count} partitions; expected at least 1")
    for taken in takes:
        if isinstance(taken, Pattern):
            raise ContractError(f"{name} takes {taken.key!r} and has partitions; expected events, which have the key")
        if not _has_value(taken, partitions.key.split(".")):
            raise ContractError(f"{name}: {taken.type_name()} has no value {partitions.key!r} that could be its key")


def _has_value(model: Any, path: Iterable[str]) -> bool:
    """Whether events of this class have a field there that holds no further fields."""
    for name in path:
        fields = getattr(model, "model_fields", {})
        if name not in fields:
            return False
        model = fields[name].annotation
    return not hasattr(model, "model_fields")


def _expect_unique(what: str, values: Iterable[object]) -> None:
    if twice := [str(value) for value, count in Counter(values).items() if count > 1]:
        raise ContractError(f"two services have the same {what}: {', '.join(twice)}")

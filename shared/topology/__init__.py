"""What the broker should hold, as data: exchanges, queues, bindings, retry and dead-letter queues, users. No I/O.

`topology()` derives all of it from the registered contracts (`shared/contract.py`). `provision.py` puts it in place; it
is not imported here: services need the names alone, and an HTTP client would make each start of theirs longer.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from shared import contract
from shared.contract import CONTROL, EVENTS, Partitions, ServiceContract

HASHING = "x-consistent-hash"
"""The type of the exchange before partitions, which RabbitMQ has with the plugin `HASHING_PLUGIN`."""
HASHING_PLUGIN = "rabbitmq_consistent_hash_exchange"

DELIVERY_LIMIT = 20
# A person may look at parked messages as often as they like. RabbitMQ 4 limits every quorum queue to 20
# returns unless another limit is set, and drops a message that passes it, since a dead letter has nowhere to go.
# A huge number, since "no limit" (-1) means "none at all" to RabbitMQ 3.10.
UNLIMITED_DELIVERIES = 1_000_000_000
# A stream forgets whole segments, and none that it still writes to.
SEGMENT_BYTES = 100_000_000


@dataclass(frozen=True)
class VirtualHost:
    """The virtual host itself, with every right in it for the user who applies the topology."""

    name: str
    user: str

    def __str__(self) -> str:
        return f"virtual host {self.name}"


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str = "topic"
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"exchange {self.name}"

    @property
    def properties(self) -> dict[str, object]:
        """All that the broker knows about it, under the broker's names."""
        return {"type": self.type, "durable": True, "auto_delete": False, "internal": False, **self.arguments}


@dataclass(frozen=True)
class Queue:
    """A durable queue; `arguments` say the rest, its type included."""

    name: str
    arguments: Mapping[str, str | int]

    def __str__(self) -> str:
        return f"queue {self.name}"

    @property
    def properties(self) -> dict[str, object]:
        """All that the broker knows about it, under the broker's names."""
        return {"durable": True, "auto_delete": False, **self.arguments}


@dataclass(frozen=True)
class Policy:
    """Properties of one queue that may change while it exists, under the broker's names."""

    queue: str
    definition: Mapping[str, str | int]

    def __str__(self) -> str:
        return f"policy {self.queue}"

    @property
    def properties(self) -> dict[str, object]:
        """All that the broker knows about it, under the broker's names."""
        definition = dict(self.definition)
        return {"pattern": f"^{re.escape(self.queue)}$", "apply-to": "queues", "priority": 1, "definition": definition}


@dataclass(frozen=True)
class Binding:
    """`queue` receives from `exchange` what has a routing key that matches the pattern. It may be an exchange, too.

    Where the exchange partitions, `routing_key` is a weight.
    """

    exchange: str
    queue: str
    routing_key: str
    to_exchange: bool = False

    def __str__(self) -> str:
        to = "exchange " if self.to_exchange else ""
        return f"binding {self.exchange} --{self.routing_key}--> {to}{self.queue}"


@dataclass(frozen=True)
class ServiceUser:
    """The broker user of a service. `permissions`: regular expressions, under the broker's names of the rights."""

    name: str
    password: str = field(repr=False)
    permissions: Mapping[str, str]

    def __str__(self) -> str:
        return f"user {self.name} with its permissions"


Item = VirtualHost | Exchange | Queue | Policy | Binding | ServiceUser
Passwords = Mapping[str, str]
"""Of the services' broker users, by name. A service without one has no user of its own."""
NO_PASSWORDS: Passwords = {}


def retry_queue(queue: str, delay_seconds: float) -> str:
    """The name of the queue where messages of `queue` wait `delay_seconds` before they come back."""
    return f"{queue}.retry.{delay_seconds:g}s"


def milliseconds(delay_seconds: float) -> int:
    """How long a message stays in the retry queue of that delay."""
    return max(1, round(delay_seconds * 1000))


def dead_queue(queue: str) -> str:
    """The name of the queue where messages of `queue` are parked with their reason."""
    return f"{queue}.dead"


def topology(
    retry_delays_of: Callable[[str], Iterable[float]],
    *,
    controls: bool = False,
    passwords: Passwords = NO_PASSWORDS,
    events_kept_hours: int = 0,
    events_kept_bytes: int = 0,
) -> tuple[Item, ...]:
    """All that a virtual host should hold, in an order in which it can be created; every name appears once.

    Other delays make other retry queues; those of before stay and still drain.
    `retry_delays_of`: the delays of a queue in seconds, as `BrokerSettings.retry_delays_of` has them.
    `controls`: services may be killed, paused and slowed down through the exchange `control`.
    `events_kept_hours`: how long the stream `events` keeps them, in at most `events_kept_bytes`; 0: no stream.
    """
    exchanges = [*contract.exchanges(), CONTROL] if controls else contract.exchanges()
    queues = [queue for name in contract.queues() for queue in _family(name, retry_delays_of(name))]
    partitioned = _partitioned()
    return (
        *(
            _service_user(each, passwords[each.name], controls)
            for each in contract.services()
            if each.name in passwords
        ),
        *(Exchange(name) for name in exchanges),
        *(Exchange(name, HASHING, {"hash-header": of.header}) for name, _, of in partitioned),
        *{queue.name: queue for queue in queues}.values(),
        *(Binding(name, partition, "1") for name, partitions, _ in partitioned for partition in partitions),
        *(_stream(events_kept_hours, events_kept_bytes) if events_kept_hours else ()),
        *(
            Binding(pattern.exchange, service.queue_name(queue.name), pattern.key, queue.partitions is not None)
            for service in contract.services()
            for queue in service.queues
            for pattern in contract.patterns(queue)
        ),
    )


def _partitioned() -> list[tuple[str, tuple[str, ...], Partitions]]:
    """Each registered queue that has partitions: its name, which is that of its exchange, and theirs."""
    return [
        (service.queue_name(queue.name), service.names_of(queue), queue.partitions)
        for service in contract.services()
        for queue in service.queues
        if queue.partitions
    ]


def _family(queue: str, delays_seconds: Iterable[float]) -> list[Queue]:
    dead = Queue(dead_queue(queue), _quorum(UNLIMITED_DELIVERIES))
    arguments = _quorum(DELIVERY_LIMIT, dead_letters_to=dead_queue(queue))
    if contract.queues()[queue].partitions:  # one consumer at a time, and no retry queues: retries wait in place
        return [Queue(queue, {**arguments, "x-single-active-consumer": True}), dead]
    main = Queue(queue, arguments)
    retries = [
        Queue(
            retry_queue(queue, delay),
            _quorum(UNLIMITED_DELIVERIES, dead_letters_to=queue, ttl_milliseconds=milliseconds(delay)),
        )
        for delay in delays_seconds
    ]
    return [main, *retries, dead]


def _stream(hours: int, most_bytes: int) -> tuple[Item, ...]:
    """How long it keeps them is a policy, since a queue's arguments can't be changed without losing what it holds.

    It has no binding: a message that a stream takes is never returned, and the outbox relays would no longer notice
    that a queue of a service is missing. The relays write to it themselves (`shared/messaging/stream.py`).
    """
    arguments: dict[str, str | int] = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": SEGMENT_BYTES}
    return Queue(EVENTS, arguments), Policy(EVENTS, {"max-age": f"{hours}h", "max-length-bytes": most_bytes})


def _quorum(
    delivery_limit: int, *, dead_letters_to: str = "", ttl_milliseconds: int | None = None
) -> dict[str, str | int]:
    arguments: dict[str, str | int] = {"x-queue-type": "quorum", "x-delivery-limit": delivery_limit}
    if ttl_milliseconds is not None:
        arguments["x-message-ttl"] = ttl_milliseconds
    if dead_letters_to:
        arguments |= {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letters_to,
            # The message leaves its queue only once the other one has confirmed it. Without reject-publish
            # RabbitMQ falls back to at-most-once, and says so only in its log.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return arguments


def _service_user(service: ServiceContract, password: str, controls: bool) -> ServiceUser:
    # Each process hears `control` through a queue that it declares itself, exclusive, with a name from the broker.
    private = [r"amq\.gen-.*"] if controls else []
    # The default exchange reaches the retry and dead-letter queues and, since RabbitMQ checks exchanges and not routing
    # keys there, any other queue: a service is kept from the exchanges of others, not from that.
    targets = [*([service.exchange] if service.exchange else []), r"amq\.default", *private]
    sources = [*map(re.escape, service.queue_names), *([CONTROL] if controls else []), *private]
    rights = {"configure": private, "write": targets, "read": sources}
    return ServiceUser(service.name, password, {right: _one_of(names) for right, names in rights.items()})


def _one_of(names: Iterable[str]) -> str:
    return f"^({'|'.join(names)})$" if names else "^$"

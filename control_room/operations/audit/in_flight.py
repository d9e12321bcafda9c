"""Messages in flight: how many are on their way to each consumer, and what outboxes and queues still hold.

The broker counts the messages of a queue and does not name their orders. So an order that lacks the effect of a message
is in flight as long as there are messages that could be its own: see `ReconciliationDatabase.call_waiting`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.asking import explained
from control_room.operations.audit.reconciliation import OnTheWay
from control_room.operations.dead_letters import parked
from control_room.operations.replicas import samples
from shared import contract
from shared.management import Management
from shared.messaging.channel import NotFound
from shared.messaging.connection import Connection
from shared.topology import dead_queue, retry_queue
from shared.waiting import poll

OUTBOX_PENDING = "order_rail_outbox_pending"
COUNTED_WITHIN_SECONDS = 11.0
"""RabbitMQ counts a queue's messages every five seconds, and the management API may be one count behind."""
POLL_SECONDS = 0.5
MOVED_AT_ONCE = 32
"""RabbitMQ takes up to so many messages out of a retry queue before their own queue has confirmed them."""
NO_LIMIT = 1_000_000
"""Messages that a consumer without a prefetch limit may hold."""


@dataclass(frozen=True)
class Leftovers:
    """Messages by queue, retry queues included, and events by service; None for a queue that is missing."""

    queues: dict[str, int | None]
    outboxes: dict[str, int]

    @property
    def is_empty(self) -> bool:
        return not any(self.outboxes.values()) and all(count == 0 for count in self.queues.values())


async def lasting_leftovers(system: SystemAddresses, http: httpx.AsyncClient, management: Management) -> Leftovers:
    """What is left after the broker has counted its messages again. Raises AuditImpossible, ManagementError."""
    return await poll(
        lambda: leftovers(system, http, management),
        within_seconds=COUNTED_WITHIN_SECONDS,
        every_seconds=POLL_SECONDS,
        until=lambda found: found.is_empty,
    )


async def leftovers(system: SystemAddresses, http: httpx.AsyncClient, management: Management) -> Leftovers:
    """What is left by the last count, which may be some seconds old. Raises AuditImpossible, ManagementError."""
    held = {queue["name"]: queue.get("messages", 0) for queue in await _find(management, "queues")}
    dead = {dead_queue(queue) for queue in contract.queues()}
    missing: dict[str, int | None] = dict.fromkeys({*contract.queues(), *dead} - set(held))
    ours = {name: count for name, count in held.items() if _is_on_the_way(name)}
    return Leftovers({**missing, **ours}, await _outboxes(system, http))


async def on_the_way(
    system: SystemAddresses, http: httpx.AsyncClient, management: Management, connection: Connection
) -> list[OnTheWay]:
    """The messages on their way to the consumer of each queue.

    Raises AuditImpossible, ManagementError, BrokerUnavailable.

    Outboxes are counted before queues, as messages pass them, so that none is missed.
    """
    outboxes = await _outboxes(system, http)
    unacknowledged = {
        queue["name"]: queue.get("messages_unacknowledged") for queue in await _find(management, "queues")
    }
    limits: dict[str, int] = defaultdict(int)
    for consumer in await _find(management, "consumers"):
        limits[consumer["queue"]["name"]] += consumer.get("prefetch_count") or NO_LIMIT
    ready = await _ready(connection, [name for name in unacknowledged if _is_on_the_way(name)])
    return [
        counted(
            queue,
            sum(outboxes[service] for service in _publishers(queue)),
            ready,
            unacknowledged.get(queue),
            limits[queue],
            system.retry_delays_of(queue),
        )
        for queue in contract.queues()
    ]


def counted(
    queue: str,
    in_outboxes: int,
    ready: Mapping[str, int],
    unacknowledged: int | None,
    limit: int,
    our_delays: Sequence[float],
) -> OnTheWay:
    """The messages on their way to a queue's consumers, which may hold up to `limit` of them.

    `unacknowledged`: None if the broker has not counted them yet. `our_delays`: retry delays in our own settings; those
    of the services may differ.
    """
    retries = {name: ready[name] for name in ready if name.startswith(_retry_prefix(queue))}
    in_queues = in_outboxes + ready.get(queue, 0) + sum(retries.values())
    being_moved = MOVED_AT_ONCE * sum(1 for count in retries.values() if count)
    in_names = [float(name.removeprefix(_retry_prefix(queue)).removesuffix("s")) for name in retries]
    # Delays that are alike share a queue: so each counts twice, unless we know better.
    delays = our_delays if set(our_delays) == set(in_names) else [*in_names, *in_names]
    return OnTheWay(
        queue=queue,
        at_least=in_queues + (unacknowledged or 0),
        counted=in_queues + (limit if unacknowledged is None else unacknowledged),
        at_most=in_queues + max(limit, unacknowledged or 0) + being_moved,
        retry_seconds=sum(delays),
        attempts=1 + len(delays),
    )


async def _find(management: Management, kind: str) -> list[dict[str, Any]]:
    return await management.find(kind, management.vhost) or []


async def _ready(connection: Connection, queues: Sequence[str]) -> dict[str, int]:
    """Messages that no consumer holds, counted now over AMQP: the management API's counts are some seconds old."""
    # Twice, for a message that has left its queue for a retry queue that was counted before.
    first, second = [{name: await _count(connection, name) for name in queues} for _ in range(2)]
    return {name: max(first[name], second[name]) for name in first}


async def _count(connection: Connection, queue: str) -> int:
    with suppress(NotFound):
        return (await parked.inspect(connection, queue)).messages
    return 0


def _is_on_the_way(queue: str) -> bool:
    return any(queue == name or queue.startswith(_retry_prefix(name)) for name in contract.queues())


def _retry_prefix(queue: str) -> str:
    return retry_queue(queue, 0).removesuffix("0s")


def _publishers(queue: str) -> Iterable[str]:
    """The services that publish to the exchanges that this queue is bound to."""
    exchanges = {pattern.exchange for pattern in contract.patterns(contract.queues()[queue])}
    return [service.name for service in contract.services() if service.exchange in exchanges]


async def _outboxes(system: SystemAddresses, http: httpx.AsyncClient) -> dict[str, int]:
    """Events by service that wait to be published, counted some seconds ago. Replicas share one outbox."""
    counts = {}
    for service, url in system.services.items():
        with explained(service, url, http, "its page of metrics"):
            counts[service] = int(max(await samples(http, url, OUTBOX_PENDING)))
    return counts

"""How many messages are on their way to each consumer: in its queue, in a retry queue of it, or in an outbox before it.

The broker says which queues hold messages and how many, not whose they are. So an order that lacks what a message
would bring waits for as long as there are messages that could be its own; `Books.call_waiting` has the rule.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit.leftovers import outboxes
from control_room.operations.audit.reconciliation import OnTheWay
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.dead_letters import parked
from shared import contract
from shared.management import Management, ManagementError
from shared.messaging.channel import BrokerUnavailable, NotFound
from shared.messaging.connection import Connection
from shared.topology import retry_queue

MOVED_AT_ONCE = 32
"""RabbitMQ takes up to so many messages out of a retry queue before their own queue has confirmed them."""

NO_LIMIT = 1_000_000
"""Messages that a consumer without a prefetch limit may hold."""


async def on_the_way(system: SystemAddresses, http: httpx.AsyncClient, management: Management) -> list[OnTheWay]:
    """To the consumer of each queue. Raises AuditImpossible.

    What comes earlier on the way is counted first, so that no message slips past.
    """
    waiting = await outboxes(system, http)
    try:
        listed = await management.find("queues", management.vhost) or []
        consumers = await management.find("consumers", management.vhost) or []
    except ManagementError as error:
        raise AuditImpossible("RabbitMQ", str(error)) from error
    held = {queue["name"]: queue.get("messages_unacknowledged") for queue in listed}
    ready = await _ready(system.rabbitmq_url, [name for name in held if _is_on_the_way(name)])
    limits: dict[str, int] = defaultdict(int)
    for consumer in consumers:
        limits[consumer["queue"]["name"]] += consumer.get("prefetch_count") or NO_LIMIT
    before = {queue: sum(waiting[service] for service in _services_before(queue)) for queue in contract.queues()}
    return [
        _on_the_way(queue, before[queue], ready, held.get(queue), limits[queue], system.retry_delays_of(queue))
        for queue in contract.queues()
    ]


def _on_the_way(
    queue: str, before: int, ready: Mapping[str, int], held: int | None, limit: int, known: Sequence[float]
) -> OnTheWay:
    retries = {name: ready[name] for name in ready if name.startswith(_retry_prefix(queue))}
    in_queues = before + ready.get(queue, 0) + sum(retries.values())
    being_moved = MOVED_AT_ONCE * sum(1 for count in retries.values() if count)
    delays = _delays([float(name.removeprefix(_retry_prefix(queue)).removesuffix("s")) for name in retries], known)
    return OnTheWay(
        queue=queue,
        counted=in_queues + (limit if held is None else held),  # the broker may not have counted them yet
        at_most=in_queues + max(limit, held or 0) + being_moved,
        retry_seconds=sum(delays),
        attempts=1 + len(delays),
    )


def _delays(by_name: Sequence[float], known: Sequence[float]) -> Sequence[float]:
    """Before each further attempt. Those that are alike share a queue: so each counts twice, unless we know better.

    `known` are those that our own settings have, and the services may have others.
    """
    return known if set(known) == set(by_name) else [*by_name, *by_name]


async def _ready(url: str, queues: Iterable[str]) -> dict[str, int]:
    """Messages that no consumer holds, as they are now: the management API would tell some seconds late."""
    try:
        async with parked.connected(url) as connection:
            # Twice, for a message that has left its queue for a retry queue that was counted before.
            first, second = [{name: await _count(connection, name) for name in queues} for _ in range(2)]
    except BrokerUnavailable as error:
        why = f"the dead letters could not be read, nor what waits in the queues: {error}"
        raise AuditImpossible("RabbitMQ", why) from error
    return {name: max(first[name], second[name]) for name in first}


async def _count(connection: Connection, queue: str) -> int:
    try:
        return (await parked.inspect(connection, queue)).messages
    except NotFound:
        return 0


def _is_on_the_way(queue: str) -> bool:
    return any(queue == name or queue.startswith(_retry_prefix(name)) for name in contract.queues())


def _retry_prefix(queue: str) -> str:
    return retry_queue(queue, 0).removesuffix("0s")


def _services_before(queue: str) -> list[str]:
    """Those that publish what this queue is bound to."""
    exchanges = {pattern.exchange for pattern in contract.patterns(contract.queues()[queue])}
    return [service.name for service in contract.services() if service.exchange in exchanges]

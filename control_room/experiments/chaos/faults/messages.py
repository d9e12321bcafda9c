"""Faults of messages: what should never be published, published while the system runs."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import NoEvidence, SystemUnderTest
from control_room.experiments.client import DUPLICATES
from control_room.operations.roles import CHARGE, ORDERS, PAYMENTS
from shared import contract
from shared.events import MAX_EVENT_BYTES, OrderPlaced
from shared.messaging.message import Delivery, Message

SETTLED = "order_rail_deliveries_settled_total"
COPIED_ORDERS, COPIES = 10, 3
DELAYED_MESSAGES = 30
ROUTES = {
    name: ("", name)  # its exchange would choose the partition
    if queue.partitions
    else (pattern.exchange, pattern.key.replace(".*", ".v1").replace(".#", ".succeeded.v1"))
    for name, queue in contract.queues().items()
    for pattern in contract.patterns(queue)[:1]
}
"""The exchange and the routing key by which a message reaches a queue; it may reach others besides."""
ORDER_EVENTS, QUEUES = (f"exchange {ORDERS.exchange}",), tuple(ROUTES)


class _UnreadableTime(datetime):
    """A time that no decoder can read: 2^62 seconds after 1970."""

    def utctimetuple(self) -> time.struct_time:
        """What the encoder asks for; it adds the days up without a look at the calendar."""
        return time.struct_time((1970, 1, 1 + 2**62 // 86400, 0, 0, 0, 0, 1, 0))


UNREADABLE_TIME = _UnreadableTime(2000, 1, 1, tzinfo=UTC)


@fault("duplicates", ORDER_EVENTS, allowance_seconds=4)
async def duplicates(system: SystemUnderTest, injection: Injection) -> None:
    """Real orders published again, several times."""
    service, labels = PAYMENTS.name, {"queue": CHARGE}
    copies = await _placed_orders(system) * COPIES
    before = await system.counter(service, DUPLICATES, labels)
    with injection.active():
        await system.client.publish(copies)
    # Not all of them: the copies of an order whose charge never works are no duplicates, but further attempts.
    after = await system.counter(service, DUPLICATES, labels, before + len(copies) / 2)
    injection.saw(f"{len(copies)} copies of orders were published; {after - before:g} duplicates suppressed")


@fault("shuffled", QUEUES, lasts_seconds=(1, 3), allowance_seconds=6)
async def shuffled(system: SystemUnderTest, injection: Injection) -> None:
    """Messages that come late and in reverse order, after those that were behind them."""
    held: list[Delivery] = []
    with injection.active():
        async with system.client.channel() as channel:
            await channel.qos(DELAYED_MESSAGES)
            await channel.consume(injection.target, held.append)
            expecting = f"{DELAYED_MESSAGES} messages of {injection.target}"
            await system.until(lambda: len(held) >= DELAYED_MESSAGES, expecting)
            await asyncio.sleep(injection.seconds)
            late = [replace(each.message, exchange="", routing_key=injection.target) for each in reversed(held)]
            await system.client.publish(late)
            channel.ack(held[-1].tag, multiple=True)
    injection.saw(f"{len(held)} messages came {injection.seconds} s late, the last one first")
    injection.saw(await system.orders_in_flight())


@fault("malformed", QUEUES, allowance_seconds=4)
async def malformed(system: SystemUnderTest, injection: Injection) -> None:
    """Messages that are no event: nothing, no JSON, no text, no object, an object that is no event."""
    exchange, routing_key = ROUTES[injection.target]
    event = json.dumps({**_event(routing_key), "data": 1}).encode()
    bodies = (b"", b"hello", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"{}", event)
    await _expect_dead_letters(system, injection, [Message(exchange, routing_key, body) for body in bodies])


@fault("oversize", QUEUES, allowance_seconds=4)
async def oversize(system: SystemUnderTest, injection: Injection) -> None:
    """A message larger than any event may be."""
    exchange, routing_key = ROUTES[injection.target]
    await _expect_dead_letters(system, injection, [Message(exchange, routing_key, b"x" * (4 * MAX_EVENT_BYTES))] * 2)


@fault("unknown-version", QUEUES, allowance_seconds=4)
async def unknown_version(system: SystemUnderTest, injection: Injection) -> None:
    """An event of a version that no consumer knows."""
    exchange, routing_key = ROUTES[injection.target]
    newer = routing_key.replace(".v1", ".v99")
    message = Message(exchange, newer, json.dumps(_event(newer)).encode(), type=newer)
    await _expect_dead_letters(system, injection, [message])


@fault("hostile-headers", ORDER_EVENTS, allowance_seconds=4)
async def hostile_headers(system: SystemUnderTest, injection: Injection) -> None:
    """Real orders with headers that no decoder can read: a time of 2^62 seconds.

    A NaN can't be one of them: RabbitMQ 3.10 refuses it itself.
    """
    headers: tuple[dict[str, Any], ...] = ({"at": UNREADABLE_TIME}, {"attempt": 1, "deep": [[{"at": UNREADABLE_TIME}]]})
    messages = [replace(message, headers=each) for message in await _placed_orders(system) for each in headers]
    await _expect_dead_letters(system, injection, messages, CHARGE)


def _event(type_: str) -> dict[str, Any]:
    return {"specversion": "1.0", "id": str(uuid4()), "source": "chaos", "type": type_, "subject": str(uuid4())}


async def _expect_dead_letters(
    system: SystemUnderTest, injection: Injection, messages: Sequence[Message], queue: str = ""
) -> None:
    """Publish messages; the service must dead-letter each without dying. `queue`: if not the injection's target."""
    queue = queue or injection.target
    service, labels = contract.service_of(queue).name, {"outcome": "deadletter", "queue": queue}
    pid = system.process(service).pid
    before = await system.counter(service, SETTLED, labels)
    with injection.active():
        await system.client.publish(messages)
    after = await system.counter(service, SETTLED, labels, before + len(messages))
    if system.process(service).pid != pid:
        raise NoEvidence(f"{service} died of it")
    injection.saw(f"{len(messages)} messages were published, {after - before:g} became dead letters")


async def _placed_orders(system: SystemUnderTest) -> list[Message]:
    """Messages of new orders, as they are published while this runs."""
    async with system.client.published(ORDERS.exchange, OrderPlaced.type_name()) as messages:
        await system.until(lambda: len(messages) >= COPIED_ORDERS, f"{COPIED_ORDERS} orders to be published")
    return messages[:COPIED_ORDERS]

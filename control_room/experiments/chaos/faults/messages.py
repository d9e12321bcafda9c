"""Faults of messages: what nobody should publish, published while the system runs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from control_room.experiments.chaos.faults.scene import PATIENCE_SECONDS, Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.experiments.chaos.watch import DUPLICATES
from shared import contract
from shared.events import MAX_EVENT_BYTES
from shared.messaging.connection import Connection
from shared.messaging.message import Delivery, Message
from shared.messaging.publisher import publishing

SETTLED = "order_rail_deliveries_settled_total"
TAPPED_MESSAGES = 10
COPIES = 3
HELD_BACK_MESSAGES = 30
TAP_LENGTH, TAP_EXPIRES_MILLISECONDS = 1000, 60_000
QUEUES = {
    name: (pattern.exchange, pattern.key.replace(".*", ".v1").replace(".#", ".succeeded.v1"))
    for name, queue in contract.queues().items()
    for pattern in contract.patterns(queue)[:1]
}
"""How a message reaches a queue: an exchange and a routing key. It may reach others besides."""


class _LongAfterUs(datetime):
    """A time that no decoder can read: 2^62 seconds after 1970."""

    def utctimetuple(self) -> time.struct_time:
        """What the encoder asks for; it adds the days up without a look at the calendar."""
        return time.struct_time((1970, 1, 1 + 2**62 // 86400, 0, 0, 0, 0, 1, 0))


LONG_AFTER_US = _LongAfterUs(2000, 1, 1, tzinfo=UTC)


async def duplicates(scene: Scene, _fall: Fall, marks: Marks) -> None:
    """Real orders are published again, several times."""
    queue = "payment_service.charge"
    service, labels = "payment_service", {"queue": queue}
    placed = await _placed_orders(scene)
    before = await scene.counter(service, DUPLICATES, labels)
    copies = placed * COPIES
    marks.begin()
    try:
        await _publish(scene, copies)
    finally:
        marks.end()
    # Not all of them: the copies of an order whose charge never works are no duplicates, but further attempts.
    after = await scene.until_counted(service, DUPLICATES, labels, before + len(copies) / 2)
    marks.saw(f"{len(copies)} copies of {len(placed)} orders were published; {after - before:g} duplicates suppressed")


async def shuffled(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Messages are held back, and come in reverse order after those that were behind them."""
    connection = await Connection.open(scene.system.broker_settings.rabbitmq_url, "chaos shuffle")
    try:
        channel, held = await connection.channel(), list[Delivery]()
        await channel.qos(HELD_BACK_MESSAGES)

        async def enough() -> bool:
            return len(held) >= HELD_BACK_MESSAGES

        marks.begin()
        await channel.consume(fall.target, held.append)
        await scene.until(enough, f"{HELD_BACK_MESSAGES} messages of {fall.target}")
        await asyncio.sleep(fall.seconds)
        late = [replace(each.message, exchange="", routing_key=fall.target) for each in reversed(held)]
        await _publish(scene, late)
        channel.ack(held[-1].tag, multiple=True)
    finally:
        await connection.close()
        marks.end()
    marks.saw(f"{len(held)} messages came {fall.seconds} s late, the last one first; {await scene.orders_in_flight()}")


async def malformed(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Bodies that are no event: nothing, no JSON, no text, no object, an object that is no event."""
    exchange, routing_key = QUEUES[fall.target]
    event = {"specversion": "1.0", "id": "1", "source": "chaos", "type": routing_key, "subject": str(uuid4())}
    bodies = (b"", b"hello", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"{}", json.dumps({**event, "data": 1}).encode())
    await _expect_parked(scene, fall, marks, [Message(exchange, routing_key, body) for body in bodies])


async def oversize(scene: Scene, fall: Fall, marks: Marks) -> None:
    """A body that is larger than any event may be."""
    exchange, routing_key = QUEUES[fall.target]
    await _expect_parked(scene, fall, marks, [Message(exchange, routing_key, b"x" * (4 * MAX_EVENT_BYTES))] * 2)


async def unknown_version(scene: Scene, fall: Fall, marks: Marks) -> None:
    """An event of a version that nobody knows yet."""
    exchange, routing_key = QUEUES[fall.target]
    newer = routing_key.replace(".v1", ".v99")
    event = {"specversion": "1.0", "id": str(uuid4()), "source": "chaos", "type": newer, "subject": str(uuid4())}
    await _expect_parked(scene, fall, marks, [Message(exchange, newer, json.dumps(event).encode(), type=newer)])


async def hostile_headers(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Real orders whose headers no decoder can read. (A NaN can't be one of them: RabbitMQ 3.10 refuses it itself.)"""
    headers: tuple[dict[str, Any], ...] = ({"at": LONG_AFTER_US}, {"attempt": 1, "deep": [[{"at": LONG_AFTER_US}]]})
    placed = await _placed_orders(scene)
    hostile = [replace(message, headers=each) for message in placed for each in headers]
    await _expect_parked(scene, replace(fall, target="payment_service.charge"), marks, hostile)


async def _expect_parked(scene: Scene, fall: Fall, marks: Marks, messages: Sequence[Message]) -> None:
    """Publish them; the service must set each aside, over the connections that it has."""
    service = fall.target.partition(".")[0]
    labels = {"outcome": "deadletter", "queue": fall.target}
    pid = scene.process(service).pid
    before = await scene.counter(service, SETTLED, labels)
    marks.begin()
    try:
        await _publish(scene, messages)
    finally:
        marks.end()
    after = await scene.until_counted(service, SETTLED, labels, before + len(messages))
    if scene.process(service).pid != pid:
        raise NoEvidence(f"{service} died of it")
    marks.saw(f"{len(messages)} messages were published to {messages[0].exchange}, {after - before:g} were set aside")


async def _publish(scene: Scene, messages: Sequence[Message]) -> None:
    """Publish them all; NoEvidence if one was not confirmed."""
    url = scene.system.broker_settings.rabbitmq_url
    async with publishing(url, "chaos", within_seconds=PATIENCE_SECONDS) as publisher:
        failed = [error for error in await publisher.publish_all(messages) if error is not None]
    if failed:
        raise NoEvidence(f"{len(failed)} of {len(messages)} messages could not be published: {failed[0]}")


async def _placed_orders(scene: Scene) -> list[Message]:
    """Messages as the order service publishes them just now."""
    seen: list[Message] = []
    async with _tap(scene, "orders", "order.placed.v1") as queue:
        connection = await Connection.open(scene.system.broker_settings.rabbitmq_url, "chaos tap")
        try:
            channel = await connection.channel()
            await channel.consume(queue, lambda delivery: seen.append(delivery.message))

            async def enough() -> bool:
                return len(seen) >= TAPPED_MESSAGES

            await scene.until(enough, f"{TAPPED_MESSAGES} orders to be published")
        finally:
            await connection.close()
    return seen[:TAPPED_MESSAGES]


@asynccontextmanager
async def _tap(scene: Scene, exchange: str, routing_key: str) -> AsyncIterator[str]:
    """A queue of our own that gets a copy of what the exchange gets. Should we be killed, the broker removes it."""
    vhost, queue = scene.management.vhost, f"chaos.tap.{uuid4().hex[:12]}"
    arguments = {"x-expires": TAP_EXPIRES_MILLISECONDS, "x-max-length": TAP_LENGTH}
    await scene.management.put("queues", vhost, queue, body={"durable": True, "arguments": arguments})
    try:
        path = ("bindings", vhost, "e", exchange, "q", queue)
        await scene.management.post(*path, body={"routing_key": routing_key})
        yield queue
    finally:
        await scene.management.delete("queues", vhost, queue)


TO_ALL = tuple(QUEUES)
FAULTS = (
    Fault(
        Kind("duplicates", ("exchange orders",), (0, 0), 4), "Real orders published again, several times", duplicates
    ),
    Fault(Kind("shuffled", TO_ALL, (1, 3), 6), "Messages that come late and in reverse order", shuffled),
    Fault(Kind("malformed", TO_ALL, (0, 0), 4), "Messages that are no event", malformed),
    Fault(Kind("oversize", TO_ALL, (0, 0), 4), "A message larger than any event may be", oversize),
    Fault(Kind("unknown-version", TO_ALL, (0, 0), 4), "An event of a version that nobody knows", unknown_version),
    Fault(
        Kind("hostile-headers", ("exchange orders",), (0, 0), 4),
        "Real orders with headers that no decoder can read: a time of 2^62 seconds",
        hostile_headers,
    ),
)

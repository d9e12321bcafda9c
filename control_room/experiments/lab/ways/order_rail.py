"""Order Rail's way: outbox, confirms, ack after work, a key, delays, dead letters, a queue for each kind of work."""

import asyncio
from typing import Any

from control_room.experiments.lab import store
from control_room.experiments.lab.parts import LabPublisher, running
from control_room.experiments.lab.shop import EVENTS, Shop
from shared.breaker import Breaker
from shared.events import Event
from shared.messaging.consumer import Consumer
from shared.messaging.processor import Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.persistence.relay import OutboxRelay
from shared.topology import DELIVERY_LIMIT, dead_queue, milliseconds, retry_queue

DELAYS_SECONDS = (0.2, 1.0)
CONCURRENCY = 50


async def produce(shop: Shop) -> None:
    """The order and its event are one commit. The relay publishes it until the broker has confirmed."""
    books, publisher = store.Books(shop.exchange), LabPublisher(shop.url, shop.way)
    database = store.database(shop.folder / "books.db", books.metadata)
    async with running(shop, database, publisher, OutboxRelay(database, books.outbox, publisher)):
        async for order in shop.arriving():
            with shop.placing(order):
                await database.write(books.place, order.event)


async def consume(shop: Shop) -> None:
    """The record of the work has the order as its primary key; the delivery is acknowledged once that is committed."""
    database, publisher = store.database(shop.folder / "work.db", store.work), Publisher(shop.url, shop.way)
    breakers = {kind: Breaker(kind) for kind in EVENTS}  # while one is down, its orders wait and spend no attempts

    async def handle(event: Event, _attempt: int) -> Ack:
        order = shop.order_of(event)
        await breakers[order.kind].call(shop.begin, order)
        is_new = await database.write(store.record, order.number)
        await shop.end(order, is_new=is_new)
        return DONE if is_new else DUPLICATE

    queues = [Subscription(shop.queue(kind), {event: handle}, CONCURRENCY) for kind, event in EVENTS.items()]
    consumer = Consumer(shop.url, shop.way, queues, publisher, lambda _queue: DELAYS_SECONDS)
    async with running(shop, database, publisher, consumer):
        await asyncio.Event().wait()


def declare(channel: Any, shop: Shop) -> None:
    """A durable quorum queue for each kind of work."""
    for kind, event in EVENTS.items():
        queue = shop.queue(kind)
        declare_beside(channel, queue)
        limit = {"x-delivery-limit": DELIVERY_LIMIT}
        channel.queue_declare(queue, durable=True, arguments={**limit, **_quorum(dead_letters_to=dead_queue(queue))})
        channel.queue_bind(queue, shop.exchange, event.type_name())


def declare_beside(channel: Any, queue: str) -> None:
    """Where its messages wait for their next attempt, and where they are parked after the last."""
    channel.queue_declare(dead_queue(queue), durable=True, arguments=_quorum())
    for delay in DELAYS_SECONDS:
        arguments = {"x-message-ttl": milliseconds(delay), **_quorum(dead_letters_to=queue)}
        channel.queue_declare(retry_queue(queue, delay), durable=True, arguments=arguments)


def _quorum(dead_letters_to: str = "") -> dict[str, Any]:
    if not dead_letters_to:
        return {"x-queue-type": "quorum"}
    target = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead_letters_to}
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        **target,
    }

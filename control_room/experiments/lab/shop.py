"""What the processes of a way work with: customers, books, the courier company, and pika's channel with its record."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingConnection

from control_room.experiments.lab import points, record
from control_room.experiments.lab.events import CourierOrdered, KitchenOrdered, Ordered
from control_room.experiments.lab.record import COURIER, KITCHEN, Recorder, kind_of, lines_of
from shared.events import Event, UnreadableEvent, decode, encode
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher, PublishError, Refused, Unroutable
from shared.messaging.retry import Unavailable
from shared.observability import delivery_log
from shared.observability.delivery_log import Note
from shared.service import Component

LOOK_SECONDS = 0.05
CONNECT_AGAIN_SECONDS = 0.1
PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="application/cloudevents+json")
LATER_SECONDS = 0.2
EVENTS: dict[str, type[Event]] = {KITCHEN: KitchenOrdered, COURIER: CourierOrdered}


class Rubbish(Exception):
    """A message that is no order, and never will be."""


@dataclass(frozen=True)
class Order:
    """`number` is its idempotency key."""

    number: int

    @property
    def kind(self) -> str:
        return kind_of(self.number)

    @property
    def event(self) -> Event:
        order_id = f"{self.number:08x}-0000-7000-8000-000000000000"
        return EVENTS[self.kind].about(order_id, source="lab", data=Ordered(number=self.number))

    @property
    def key(self) -> str:
        """The routing key."""
        return EVENTS[self.kind].type_name()

    @property
    def body(self) -> bytes:
        return encode(self.event)


@dataclass(frozen=True)
class Shop:
    """Of one way. What happens is written to `file`, its record; `folder` has what else its processes share."""

    way: str
    role: str
    url: str
    folder: Path
    file: Path

    @property
    def exchange(self) -> str:
        return self.way

    def queue(self, kind: str) -> str:
        return f"{self.way}.{kind}"

    @property
    def queues(self) -> Sequence[str]:
        """One for each kind of work."""
        return [self.queue(kind) for kind in EVENTS]

    @cached_property
    def record(self) -> Recorder:
        return Recorder(self.file)

    # The producer

    def customers(self) -> Iterator[Order]:
        """Those who have not asked for their order yet, one after the other, for as long as the process lives."""
        while True:
            if (order := self._next_order()) is not None:
                yield order
            else:
                time.sleep(LOOK_SECONDS)

    async def arriving(self) -> AsyncIterator[Order]:
        """The same."""
        while True:
            if (order := self._next_order()) is not None:
                yield order
            else:
                await asyncio.sleep(LOOK_SECONDS)

    def unpublished(self) -> list[Order]:
        """What an earlier process has committed and not published, oldest first."""
        lines = list(lines_of(self.file))
        published = {line["order"] for line in lines if line["what"] == record.PUBLISHED}
        placed = (line["order"] for line in lines if line["what"] == record.PLACED)
        return [Order(number) for number in placed if number not in published]

    def _next_order(self) -> Order | None:
        """None until the lab lets more customers in."""
        next_number = self._asked["order"] + 1
        if next_number > int((self.folder / "gate").read_text()):
            return None
        self._asked["order"] = next_number
        self.record(record.ASKED, next_number)
        return Order(next_number)

    @cached_property
    def _asked(self) -> dict[str, int]:
        """The last customer that an earlier process had, too: an error is no reason to come again."""
        asked = (line["order"] for line in lines_of(self.file) if line["what"] == record.ASKED)
        return {"order": max(asked, default=0)}

    @contextmanager
    def placing(self, order: Order) -> Iterator[None]:
        """Around the commit of an order."""
        self._pass(points.BEFORE_COMMIT, order)
        yield
        self.record(record.PLACED, order.number, durable=True)
        self._pass(points.AFTER_COMMIT, order)

    def commit(self, order: Order) -> None:
        """Write the order into the books, on disk: from now on the shop owes it."""
        with self.placing(order):
            pass  # the line of the record is the book of the wrong ways

    # The consumer

    def order_in(self, body: bytes) -> Order:
        """Raises `Rubbish`."""
        try:
            return Order(decode(body).data.number)
        except UnreadableEvent as error:
            raise Rubbish(str(error)) from error

    def number_in(self, body: bytes) -> int | None:
        """None for rubbish."""
        try:
            return self.order_in(body).number
        except Rubbish:
            return None

    def perform(self, order: Order) -> None:
        """Do the work of an order, however often. Raises `Unavailable` while the courier company is down."""
        self._perform(order, is_new=True)

    def perform_once(self, order: Order) -> None:
        """Do the work of an order, unless it is done. Raises `Unavailable` while the courier company is down."""
        self._perform(order, is_new=order.number not in self._done)
        self._done.add(order.number)

    def _perform(self, order: Order, *, is_new: bool) -> None:
        self._pass(points.BEFORE_EFFECT, order)
        self._call(order)
        self._note_done(order, is_new)
        self._pass(points.AFTER_EFFECT, order)

    @cached_property
    def _done(self) -> set[int]:
        return {line["order"] for line in lines_of(self.file) if line["what"] == record.PERFORMED}

    def order_of(self, event: Event) -> Order:
        """The order in a delivery."""
        order = Order(event.data.number)
        self.record(record.DELIVERED, order.number)
        return order

    async def begin(self, order: Order) -> None:
        """The first half of `perform`, for a handler that works on several orders at a time."""
        await self._pass_by(points.BEFORE_EFFECT, order)
        self._call(order)

    async def end(self, order: Order, *, is_new: bool) -> None:
        """The second half: the work is recorded, or was found recorded."""
        self._note_done(order, is_new)
        await self._pass_by(points.AFTER_EFFECT, order)

    def _call(self, order: Order) -> None:
        if order.kind == COURIER and (self.folder / "courier-is-down").exists():
            self.record(record.REFUSED, order.number)
            raise Unavailable("the courier company is down")

    def _note_done(self, order: Order, is_new: bool) -> None:
        self.record(record.PERFORMED if is_new else record.REPEATED, order.number, durable=is_new)

    def _pass(self, at: str, order: Order) -> None:
        """Go on, unless this is where the process is to be killed."""
        while self._point.is_at(at, order.number):
            time.sleep(LOOK_SECONDS)

    async def _pass_by(self, at: str, order: Order) -> None:
        """The same."""
        if self._point.is_at(at, order.number):
            await asyncio.Event().wait()

    @cached_property
    def _point(self) -> points.Point:
        return points.Point(self.folder, self.role)

    # The broker, and the parts of Order Rail

    def channel(self) -> Any:
        """pika's channel on a new connection, once the broker is there; it records what goes through it."""
        while True:
            try:
                connection = BlockingConnection(pika.URLParameters(self.url))
            except pika.exceptions.AMQPError:
                time.sleep(CONNECT_AGAIN_SECONDS)
            else:
                return RecordedChannel(connection.channel(), self)

    def exchange_channel(self) -> Any:
        """The same, with the exchange of this way."""
        channel = self.channel()
        channel.exchange_declare(self.exchange, "topic", durable=True)
        return channel

    def redis(self) -> Any:
        """redis-py's client, once Redis is there; it records what is done with it."""
        from control_room.experiments.lab.redis_client import RecordedRedis  # noqa: PLC0415 - needs an extra

        client = RecordedRedis(self)
        client.connect()
        return client

    def pause(self) -> None:
        """There was nothing to do."""
        time.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def running(self, *components: Component) -> AsyncIterator[None]:
        """The components run, and what they publish and settle is recorded."""
        delivery_log.listen(self._note)
        for component in components:
            await component.start()
        yield
        for component in reversed(components):
            await component.stop()

    def _note(self, note: Note) -> None:
        order = int(note.order_id[:8], 16) if note.order_id else None
        if note.act == "published" and note.outcome == "confirmed" and note.place == self.exchange:
            self.record(record.PUBLISHED, order, confirmed=True)
        elif note.act == "handled":
            self.record(record.SETTLED, order, outcome=note.outcome)


class LabPublisher(Publisher):
    """The relay forgets an event that no contract names a queue for; those of the lab are to wait for their queue."""

    async def publish_all(self, messages: Sequence[Message]) -> list[PublishError | BrokerUnavailable | None]:
        errors = await super().publish_all(messages)
        return [Refused(str(error)) if isinstance(error, Unroutable) else error for error in errors]


class RecordedChannel:
    """A channel of pika, with everything that it can do; what is published, delivered and settled is recorded."""

    def __init__(self, channel: Any, shop: Shop) -> None:
        self._channel, self._shop = channel, shop
        self._confirms = False
        self._orders: dict[int, int | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def confirm_delivery(self) -> None:
        self._channel.confirm_delivery()
        self._confirms = True

    def basic_publish(self, exchange: str, key: str, body: bytes, properties: Any) -> None:
        self._channel.basic_publish(exchange, key, body, properties)
        self._shop.record(record.PUBLISHED, self._shop.order_in(body).number, confirmed=self._confirms)

    def basic_consume(self, queue: str, handle: Callable[..., None], *, auto_ack: bool = False) -> None:
        def recorded(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            order = self._orders[method.delivery_tag] = self._shop.number_in(body)
            self._shop.record(record.DELIVERED, order, redelivered=method.redelivered)
            if auto_ack:
                self._settle(method.delivery_tag, "ack in advance")
            handle(self, method, properties, body)

        self._channel.basic_consume(queue, recorded, auto_ack=auto_ack)

    def basic_ack(self, tag: int) -> None:
        self._channel.basic_ack(tag)
        self._settle(tag, "ack")

    def basic_reject(self, tag: int, *, requeue: bool) -> None:
        self._channel.basic_reject(tag, requeue)
        self._settle(tag, "requeue" if requeue else "dead letter")

    def requeue_later(self, tag: int) -> None:
        """Hold the delivery for a moment, then put it back into its queue."""
        self._channel.connection.call_later(LATER_SECONDS, lambda: self.basic_reject(tag, requeue=True))

    def _settle(self, tag: int, outcome: str) -> None:
        self._shop.record(record.SETTLED, self._orders.pop(tag), outcome=outcome)

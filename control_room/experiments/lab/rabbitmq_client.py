"""pika's channel for the ways on RabbitMQ; what is published, delivered and settled with it is recorded."""

import time
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingConnection

from control_room.experiments.lab import record
from control_room.experiments.lab.shop import Shop

CONNECT_AGAIN_SECONDS = 0.1
LATER_SECONDS = 0.2
PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="application/cloudevents+json")


def connect(shop: Shop) -> Any:
    """The channel of a new connection, once the broker is there, with the exchange of the way."""
    while True:
        try:
            channel = BlockingConnection(pika.URLParameters(shop.url)).channel()
            channel.exchange_declare(shop.exchange, "topic", durable=True)
        except pika.exceptions.AMQPError:
            time.sleep(CONNECT_AGAIN_SECONDS)
        else:
            return RecordedChannel(channel, shop)


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

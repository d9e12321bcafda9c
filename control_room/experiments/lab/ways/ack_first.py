"""Acknowledge, then work. At most once."""

from contextlib import suppress
from typing import Any

from control_room.experiments.lab.rabbitmq_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """A process that is killed between the two has told the broker that work is done which never was."""
    channel = connect(shop)
    channel.basic_qos(prefetch_count=1)

    def handle(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        channel.basic_ack(method.delivery_tag)
        with suppress(Unavailable, Rubbish):  # it is acknowledged: there is nothing to give back
            shop.perform_once(shop.order_in(body))

    for queue in shop.queues:
        channel.basic_consume(queue, handle)
    channel.start_consuming()

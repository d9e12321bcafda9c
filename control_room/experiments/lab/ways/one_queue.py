"""One queue for every kind of work, in which what waits for one neighbour holds up what is for another."""

from typing import Any

from control_room.experiments.lab.rabbitmq_client import connect
from control_room.experiments.lab.shop import EVENTS, Rubbish, Shop
from shared.messaging.retry import Unavailable


def declare(channel: Any, shop: Shop) -> None:
    """Kitchen and courier orders in one."""
    channel.queue_declare(shop.exchange, durable=True)
    for event in EVENTS.values():
        channel.queue_bind(shop.exchange, shop.exchange, event.type_name())


def consume(shop: Shop) -> None:
    """While the courier company is down, its first order is at the head, and the kitchen has nothing to do."""
    channel = connect(shop)
    channel.basic_qos(prefetch_count=1)

    def handle(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        try:
            shop.perform_once(shop.order_in(body))
        except Unavailable:
            channel.requeue_later(method.delivery_tag)
        except Rubbish:
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            channel.basic_ack(method.delivery_tag)

    channel.basic_consume(shop.exchange, handle)
    channel.start_consuming()

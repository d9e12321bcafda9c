"""Put back whatever fails, for ever."""

from typing import Any

from control_room.experiments.lab.rabbitmq_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """What can never work goes back to the head of its queue, with all others behind it."""
    channel = connect(shop)
    channel.basic_qos(prefetch_count=1)

    def handle(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        try:
            shop.perform_once(shop.order_in(body))
        except (Unavailable, Rubbish):
            channel.basic_reject(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)

    for queue in shop.queues:
        channel.basic_consume(queue, handle)
    channel.start_consuming()

"""Try again at once, five times, then give up."""

from typing import Any

from control_room.experiments.lab.rabbitmq_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable

ATTEMPTS = 5


def consume(shop: Shop) -> None:
    """All attempts are spent within a millisecond of an outage that lasts seconds."""
    channel = connect(shop)
    channel.basic_qos(prefetch_count=1)

    def handle(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        for _attempt in range(ATTEMPTS):
            try:
                shop.perform_once(shop.order_in(body))
            except (Unavailable, Rubbish):
                continue
            channel.basic_ack(method.delivery_tag)
            return
        channel.basic_reject(method.delivery_tag, requeue=False)  # a dead letter

    for queue in shop.queues:
        channel.basic_consume(queue, handle)
    channel.start_consuming()

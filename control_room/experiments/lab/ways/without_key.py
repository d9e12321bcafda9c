"""Work, then acknowledge, and never ask whether the work is done already. At least once."""

from typing import Any

from control_room.experiments.lab.rabbitmq_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """A process that is killed between the two has done what the next process does again."""
    channel = connect(shop)
    channel.basic_qos(prefetch_count=1)

    def handle(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        try:
            shop.perform(shop.order_in(body))
        except Unavailable:
            channel.requeue_later(method.delivery_tag)
        except Rubbish:
            channel.basic_reject(method.delivery_tag, requeue=False)  # a dead letter
        else:
            channel.basic_ack(method.delivery_tag)

    for queue in shop.queues:
        channel.basic_consume(queue, handle)
    channel.start_consuming()

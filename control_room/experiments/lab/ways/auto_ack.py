"""Automatic acknowledgement: the broker forgets a message once it is sent. At most once."""

from contextlib import suppress
from typing import Any

from control_room.experiments.lab.rabbitmq_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """A process that is killed takes with it all that it was sent: there is no limit to that either."""
    channel = connect(shop)

    def handle(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        with suppress(Unavailable, Rubbish):  # the broker has forgotten it: there is nothing to give back
            shop.perform_once(shop.order_in(body))

    for queue in shop.queues:
        channel.basic_consume(queue, handle, auto_ack=True)
    channel.start_consuming()

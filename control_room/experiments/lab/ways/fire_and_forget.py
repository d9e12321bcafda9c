"""Publish, and hope: nobody asks the broker whether it has the message."""

from control_room.experiments.lab.rabbitmq_client import PERSISTENT, connect
from control_room.experiments.lab.shop import Shop


def produce(shop: Shop) -> None:
    """What is on the way when the broker dies is lost, and the sender does not know."""
    channel = connect(shop)
    for order in shop.customers():
        shop.commit(order)
        channel.basic_publish(shop.exchange, order.key, order.body, PERSISTENT)

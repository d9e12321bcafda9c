"""Commit, then publish: two steps, and a crash between them."""

from control_room.experiments.lab.rabbitmq_client import PERSISTENT, connect
from control_room.experiments.lab.shop import Shop


def produce(shop: Shop) -> None:
    """A process that is killed after the commit has an order in its books of which nobody will ever hear."""
    channel = connect(shop)
    channel.confirm_delivery()
    for order in shop.customers():
        shop.commit(order)
        channel.basic_publish(shop.exchange, order.key, order.body, PERSISTENT)

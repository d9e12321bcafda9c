"""Publish, then commit: the same two steps the other way round, and the same crash between them."""

from control_room.experiments.lab.rabbitmq_client import PERSISTENT, connect
from control_room.experiments.lab.shop import Shop


def produce(shop: Shop) -> None:
    """A process that is killed before the commit has work done for an order that is in nobody's books."""
    channel = connect(shop)
    channel.confirm_delivery()
    for order in shop.customers():
        channel.basic_publish(shop.exchange, order.key, order.body, PERSISTENT)
        shop.commit(order)

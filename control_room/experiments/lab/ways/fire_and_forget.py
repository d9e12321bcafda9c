"""Publish, and hope: nobody asks the broker whether it has the message."""

from control_room.experiments.lab.shop import PERSISTENT, Shop


def produce(shop: Shop) -> None:
    """What is on the way when the broker dies is lost, and the sender does not know."""
    channel = shop.channel()
    for order in shop.customers():
        shop.commit(order)
        channel.basic_publish(shop.exchange, order.key, order.body, PERSISTENT)

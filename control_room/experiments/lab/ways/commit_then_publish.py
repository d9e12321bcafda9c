"""Commit, then publish: two steps, and a crash between them."""

from control_room.experiments.lab.shop import PERSISTENT, Shop


def produce(shop: Shop) -> None:
    """A process that is killed after the commit has an order in its books of which nobody will ever hear."""
    channel = shop.channel()
    channel.confirm_delivery()
    for order in shop.customers():
        shop.commit(order)
        channel.basic_publish(shop.exchange, order.key, order.body, PERSISTENT)

"""A queue that is not durable: the broker keeps it, and what is in it, in memory."""

from typing import Any

from control_room.experiments.lab.shop import EVENTS, Shop
from control_room.experiments.lab.ways.order_rail import declare_beside


def declare(channel: Any, shop: Shop) -> None:
    """A broker that restarts has lost the queue with all that was in it, however safely that was published."""
    for kind, event in EVENTS.items():
        declare_beside(channel, shop.queue(kind))
        channel.queue_declare(shop.queue(kind), durable=False)
        channel.queue_bind(shop.queue(kind), shop.exchange, event.type_name())

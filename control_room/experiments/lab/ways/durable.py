"""The queues of the ways with a consumer of their own: durable ones, as tutorials declare them, with dead letters."""

from typing import Any

from control_room.experiments.lab.shop import EVENTS, Shop
from shared.topology import dead_queue


def declare(channel: Any, shop: Shop) -> None:
    """A queue for each kind of work, and where its dead letters go."""
    for kind, event in EVENTS.items():
        queue, dead = shop.queue(kind), dead_queue(shop.queue(kind))
        channel.queue_declare(dead, durable=True)
        target = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        channel.queue_declare(queue, durable=True, arguments=target)
        channel.queue_bind(queue, shop.exchange, event.type_name())

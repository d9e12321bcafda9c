"""A list as a queue: RPOP gives an element, and has forgotten it."""

from contextlib import suppress
from typing import Any

from control_room.experiments.lab.redis_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable


def declare(_redis: Any, _shop: Shop) -> None:
    """A list is there once something is pushed."""


def produce(shop: Shop) -> None:
    """As in the right way, to a list."""
    redis = connect(shop)
    for order in shop.unpublished():
        redis.lpush(shop.queue(order.kind), order.body)
    for order in shop.customers():
        shop.commit(order)
        redis.lpush(shop.queue(order.kind), order.body)


def consume(shop: Shop) -> None:
    """A process that is killed has taken with it what it popped."""
    redis = connect(shop)
    while True:
        for queue in shop.queues:
            while (body := redis.rpop(queue)) is not None:
                with suppress(Unavailable, Rubbish):  # it is popped: there is nothing to give back
                    shop.perform_once(shop.order_in(body))
        shop.pause()

"""The right way on Redis: a stream and a group; work under a key, then XACK; what others left pending is claimed."""

import os
from typing import Any

from control_room.experiments.lab.redis_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from control_room.experiments.lab.ways import GROUP
from shared.messaging.retry import Unavailable
from shared.topology import dead_queue

CLAIM_AFTER_MILLISECONDS = 400


def declare(redis: Any, shop: Shop) -> None:
    """A stream with a group for each kind of work."""
    for queue in shop.queues:
        redis.create_group(queue, GROUP)


def produce(shop: Shop) -> None:
    """What was committed and not published comes first, after a crash: the books are the outbox."""
    redis = connect(shop)
    for order in shop.unpublished():
        redis.xadd(shop.queue(order.kind), {"body": order.body})
    for order in shop.customers():
        shop.commit(order)
        redis.xadd(shop.queue(order.kind), {"body": order.body})


def consume(shop: Shop) -> None:
    """What was never given to anybody, and what has been pending for a while with any consumer, itself too."""
    redis, me, new = connect(shop), str(os.getpid()), dict.fromkeys(shop.queues, ">")

    def work(queue: str, entries: Any) -> None:
        for entry, fields in entries:
            try:
                shop.perform_once(shop.order_in(fields[b"body"]))
            except Unavailable:
                continue  # it stays pending, and is claimed later
            except Rubbish:
                redis.xadd(dead_queue(queue), fields)
            redis.xack(queue, GROUP, entry)

    while True:
        for queue in shop.queues:
            work(queue, redis.xautoclaim(queue, GROUP, me, CLAIM_AFTER_MILLISECONDS, count=10))
        for queue, entries in redis.xreadgroup(GROUP, me, new, count=10, block=100):
            work(queue, entries)

"""Work, then XACK, and never ask whether the work is done already."""

import os
from typing import Any

from control_room.experiments.lab.redis_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from control_room.experiments.lab.ways import GROUP
from control_room.experiments.lab.ways.redis.stream import CLAIM_AFTER_MILLISECONDS
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """A process that is killed between the two has done what the next one claims and does again."""
    redis, me, new = connect(shop), str(os.getpid()), dict.fromkeys(shop.queues, ">")

    def work(queue: str, entries: Any) -> None:
        for entry, fields in entries:
            try:
                shop.perform(shop.order_in(fields[b"body"]))
            except Unavailable:
                continue
            except Rubbish:
                pass
            redis.xack(queue, GROUP, entry)

    while True:
        for queue in shop.queues:
            work(queue, redis.xautoclaim(queue, GROUP, me, CLAIM_AFTER_MILLISECONDS, count=10))
        for queue, entries in redis.xreadgroup(GROUP, me, new, count=10, block=100):
            work(queue, entries)

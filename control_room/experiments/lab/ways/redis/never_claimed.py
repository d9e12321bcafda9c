"""A group, work under a key, then XACK; and nobody claims what a dead process has left pending."""

import os

from control_room.experiments.lab.redis_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from control_room.experiments.lab.ways import GROUP
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """`>` means "never given to anybody": what a process had when it was killed is on its list, for ever."""
    redis, me, new = connect(shop), str(os.getpid()), dict.fromkeys(shop.queues, ">")
    while True:
        for queue, entries in redis.xreadgroup(GROUP, me, new, count=10, block=100):
            for entry, fields in entries:
                try:
                    shop.perform_once(shop.order_in(fields[b"body"]))
                except Unavailable:
                    continue
                except Rubbish:
                    pass
                redis.xack(queue, GROUP, entry)

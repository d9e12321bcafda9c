"""XACK, then work."""

import os
from contextlib import suppress

from control_room.experiments.lab.redis_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from control_room.experiments.lab.ways import GROUP
from shared.messaging.retry import Unavailable


def consume(shop: Shop) -> None:
    """A process that is killed between the two has told Redis that work is done which never was."""
    redis, me, new = connect(shop), str(os.getpid()), dict.fromkeys(shop.queues, ">")
    while True:
        read = redis.xreadgroup(GROUP, me, new, count=10, block=100)
        for queue, entries in read:
            redis.xack(queue, GROUP, *(entry for entry, _ in entries))
        for _, fields in (each for _, entries in read for each in entries):
            with suppress(Unavailable, Rubbish):  # it is acknowledged: there is nothing to give back
                shop.perform_once(shop.order_in(fields[b"body"]))

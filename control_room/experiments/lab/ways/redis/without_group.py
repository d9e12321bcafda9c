"""A stream that is read without a group: where the reader is, only the reader knows."""

from contextlib import suppress
from typing import Any

from control_room.experiments.lab.redis_client import connect
from control_room.experiments.lab.shop import Rubbish, Shop
from shared.messaging.retry import Unavailable


def declare(_redis: Any, _shop: Shop) -> None:
    """A stream is there once something is added."""


def consume(shop: Shop) -> None:
    """The next process begins with what comes from then on (`$`): what came before it is read by nobody."""
    redis = connect(shop)
    last = dict.fromkeys(shop.queues, "$")
    while True:
        for queue, entries in redis.xread(last, count=10, block=100):
            for entry, fields in entries:
                with suppress(Unavailable, Rubbish):
                    shop.perform_once(shop.order_in(fields[b"body"]))
                last[queue] = entry

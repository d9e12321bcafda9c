"""redis-py's client for the ways on Redis; what is published, delivered and settled with it is recorded."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis import Redis, RedisError, ResponseError

from control_room.experiments.lab import record
from control_room.experiments.lab.shop import Shop

CONNECT_AGAIN_SECONDS = 0.1

Entry = tuple[bytes, dict[bytes, bytes]]


def connect(shop: Shop) -> Any:
    """The client, once Redis is there."""
    client = RecordedRedis(shop)
    while True:
        try:
            client.ping()
        except RedisError:
            time.sleep(CONNECT_AGAIN_SECONDS)
        else:
            return client


class RecordedRedis:
    """It can do all that the client can."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        name = f"{shop.way}.{shop.role}"
        self._redis: Any = Redis.from_url(shop.url, client_name=name, retry=None, protocol=2)
        self._orders: dict[tuple[str, bytes], int | None] = {}  # by stream and entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    def create_group(self, queue: str, group: str) -> None:
        """A stream and its group, which begins with the first entry; unless they are there."""
        with suppress(ResponseError):
            self._redis.xgroup_create(queue, group, id="0", mkstream=True)

    def xadd(self, queue: str, fields: Any) -> None:
        self._redis.xadd(queue, fields)
        self._published(fields.get("body"))

    def lpush(self, queue: str, body: bytes) -> None:
        self._redis.lpush(queue, body)
        self._published(body)

    def rpop(self, queue: str) -> bytes | None:
        body: bytes | None = self._redis.rpop(queue)
        if body is not None:
            self._shop.record(record.DELIVERED, self._shop.number_in(body))
            self._shop.record(record.SETTLED, self._shop.number_in(body), outcome="popped")
        return body

    def xread(self, last: dict[str, Any], **options: Any) -> list[tuple[str, list[Entry]]]:
        found = self._found(self._redis.xread(last, **options))
        for queue, entries in found:
            for entry, _ in entries:
                self._settle(queue, entry, "read")
        return found

    def xreadgroup(self, group: str, me: str, queues: dict[str, str], **options: Any) -> list[tuple[str, list[Entry]]]:
        return self._found(self._redis.xreadgroup(group, me, queues, **options))

    def xautoclaim(self, queue: str, group: str, me: str, idle: int, **options: Any) -> list[Entry]:
        """The entries alone."""
        return self._delivered(queue, self._redis.xautoclaim(queue, group, me, idle, **options)[1])

    def xack(self, queue: str, group: str, *entries: bytes) -> None:
        self._redis.xack(queue, group, *entries)
        for entry in entries:
            self._settle(queue, entry, "ack")

    def _found(self, reply: Any) -> list[tuple[str, list[Entry]]]:
        return [(name.decode(), self._delivered(name.decode(), entries)) for name, entries in reply or ()]

    def _delivered(self, queue: str, entries: Sequence[Entry]) -> list[Entry]:
        for entry, fields in entries:
            order = self._orders[queue, entry] = self._shop.number_in(fields[b"body"])
            self._shop.record(record.DELIVERED, order)
        return list(entries)

    def _published(self, body: bytes | None) -> None:
        if body is not None:
            self._shop.record(record.PUBLISHED, self._shop.number_in(body), confirmed=True)

    def _settle(self, queue: str, entry: bytes, outcome: str) -> None:
        self._shop.record(record.SETTLED, self._orders.pop((queue, entry)), outcome=outcome)

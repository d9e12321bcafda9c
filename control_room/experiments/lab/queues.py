"""The lab's own look into the queues, over AMQP: the numbers of the management API are seconds old."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from control_room.experiments.lab import LabFailed
from shared.messaging.channel import Channel, NotFound, QueueState
from shared.messaging.connection import Connection
from shared.messaging.message import Delivery
from shared.waiting import poll

NAME = "order-rail lab"
EMPTY = QueueState(0, 0)
WAIT_SECONDS, LOOK_SECONDS = 30.0, 0.02


class Queues:
    """Of one broker; it may be restarted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._channel: Channel | None = None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def state(self, queue: str) -> QueueState:
        """Empty where there is no such queue. Raises `BrokerUnavailable`."""
        try:
            return await (await self._open()).inspect(queue)
        except NotFound:
            return EMPTY

    async def ready(self, *queues: str) -> int:
        """Messages that no consumer has. Raises `BrokerUnavailable`."""
        return sum([(await self.state(queue)).messages for queue in queues])

    async def any_ready(self, queues: Iterable[str]) -> bool:
        """Whether one of them has such messages; those behind it are not looked at."""
        for queue in queues:
            if await self.ready(queue):
                return True
        return False

    async def left_in(self, queue: str) -> list[int]:
        """The orders in a queue that nobody consumes any more."""
        got: list[Delivery] = []

        async def is_complete() -> bool:
            return len(got) == count

        async with self._own_channel() as channel:

            async def is_free() -> bool:
                return not (await channel.inspect(queue)).consumers

            if not await poll(is_free, within_seconds=WAIT_SECONDS, every_seconds=LOOK_SECONDS):
                raise LabFailed(f"{queue}: a process that was killed still consumes after {WAIT_SECONDS:g} s")
            count = (await channel.inspect(queue)).messages
            if count:
                await channel.consume(queue, got.append)
                await poll(is_complete, within_seconds=WAIT_SECONDS, every_seconds=LOOK_SECONDS)
        return [number for each in got if (number := _number(each.message.body)) is not None]

    @asynccontextmanager
    async def _own_channel(self) -> AsyncIterator[Channel]:
        channel = await (await self._connected()).channel()
        try:
            yield channel
        finally:
            await channel.close()

    async def _open(self) -> Channel:
        if self._channel is None or not self._channel.is_open:
            self._channel = await (await self._connected()).channel()
        return self._channel

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed.done():
            self._connection = await Connection.open(self._url, NAME)
        return self._connection


def _number(body: bytes) -> int | None:
    """None for rubbish."""
    try:
        return int(json.loads(body)["data"]["number"])
    except ValueError:
        return None

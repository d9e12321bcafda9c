"""RabbitMQ. The lab looks into its queues over AMQP, since the numbers of the management API are seconds old."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import httpx

from control_room.experiments.lab import LabFailed
from control_room.experiments.lab.ways import Way
from control_room.launcher.broker import NO_TLS, PrivateBroker
from shared.messaging.channel import Channel, NotFound, QueueState
from shared.messaging.connection import Connection
from shared.messaging.message import Delivery, Message
from shared.messaging.publisher import publishing
from shared.waiting import poll

NAME = "order-rail lab"
EMPTY = QueueState(0, 0)
WAIT_SECONDS, LOOK_SECONDS = 30.0, 0.02


class RabbitMQ:
    """A private node; it raises BrokerError, BrokerUnavailable and httpx.HTTPError."""

    is_safe_after_seconds = 5.0  # RabbitMQ 3.10 may lose a queue that was created only seconds before it is killed
    gives_ahead = False  # in the ways of the lab
    give_up_seconds = 12.0

    def __init__(self, folder: Path) -> None:
        self._node = PrivateBroker(folder / "rabbitmq")
        self.url = self._node.amqp_url()
        self._connection: Connection | None = None
        self._channel: Channel | None = None

    async def __aenter__(self) -> Self:
        await self._node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()
        await self._node.kill()  # nobody needs its data
        await self._node.stop()

    @property
    def pid(self) -> int:
        return self._node.pid

    def freeze(self) -> None:
        self._node.suspend()

    async def restart(self) -> None:
        await self._node.kill()
        await self._node.start()

    async def queues_of(self, way: Way) -> Sequence[str]:
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:  # no setting of the environment counts
            answer = await http.get(f"{self._node.management_url}/api/queues")
        names = [queue["name"] for queue in answer.raise_for_status().json()]
        return [name for name in names if f"{name}.".startswith(f"{way.name}.")]

    async def put_rubbish(self, queue: str) -> None:
        async with publishing(self.url, NAME) as publisher:
            await publisher.publish(Message("", queue, b"rubbish"))

    async def is_consumed(self, queue: str) -> bool:
        return bool((await self._state(queue)).consumers)

    async def kept(self, queue: str) -> int:
        return (await self._state(queue)).messages

    async def is_waiting(self, queue: str) -> bool:
        return bool(await self.kept(queue))

    async def left_in(self, queue: str) -> list[int]:
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
        return [number for each in got if (number := number_in(each.message.body)) is not None]

    async def _state(self, queue: str) -> QueueState:
        """Empty where there is no such queue."""
        try:
            return await (await self._open()).inspect(queue)
        except NotFound:
            return EMPTY

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
            self._connection = await Connection.open(self.url, NAME)
        return self._connection


def number_in(body: bytes) -> int | None:
    """The order in a message; None for rubbish."""
    try:
        return int(json.loads(body)["data"]["number"])
    except ValueError:
        return None

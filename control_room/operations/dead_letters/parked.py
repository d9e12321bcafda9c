"""Goes through a queue's dead letters over AMQP, and puts back in their places all that it does not take.

The broker has no way to look at a queue. So the messages are consumed and not acknowledged, and go back when the
channels close; a quorum queue keeps their order. A consumer of a quorum queue may hold a limited number, so there is
one for each `WINDOW` messages; that also bounds what is in memory here, however many there are.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

from control_room.operations.dead_letters.letter import DeadLetter
from shared.messaging.channel import BrokerUnavailable, Channel, QueueState
from shared.messaging.connection import Connection
from shared.messaging.message import Delivery
from shared.topology import dead_queue
from shared.topology.definition import SUBSCRIPTIONS

WINDOW = 500
QUIET_SECONDS = 5.0
"""The broker owes us messages and sends none for so long: somebody else holds them."""
BACK_SECONDS = 2.0
ALONE_WITHIN_SECONDS = 10.0
POLL_SECONDS = 0.02

QUEUES = tuple(SUBSCRIPTIONS)
"""Every queue that has dead letters."""


class Held:
    """A dead letter in our hands. It stays parked unless it is taken with `take`."""

    def __init__(self, letter: DeadLetter, tag: int, window: "_Window") -> None:
        self.letter = letter
        self._tag, self._window = tag, window

    def take(self) -> None:
        """Remove it from its queue, for good. BrokerUnavailable if the channel closed and it has gone back already."""
        self._window.take(self._tag)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection for dead letters. Raises BrokerUnavailable."""
    connection = await Connection.open(url, "order-rail dead letters")
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def dead_letters(connection: Connection, queue: str) -> AsyncIterator[AsyncIterator[Held]]:
    """The dead letters of `queue`, oldest first: those that are there now, not those that come meanwhile.

    At the end of the block what was not taken is back in its place. Raises BrokerUnavailable, or NotFound where the
    queue is missing. One reads after the other: a second reader waits for the first, though not for ever, and what the
    first then still holds is not seen.
    """
    waiting = await _waiting_alone(connection, queue)
    windows: list[_Window] = []
    try:
        async with aclosing(_read(connection, queue, waiting, windows)) as letters:
            yield letters
    finally:
        with suppress(BrokerUnavailable):  # a closed connection gives everything back, too
            await _give_back(windows)
            await _until_back(connection, queue, waiting - sum(window.taken for window in windows))


async def _waiting_alone(connection: Connection, queue: str) -> int:
    """How many dead letters there are, once nobody else reads them."""
    deadline = asyncio.get_running_loop().time() + ALONE_WITHIN_SECONDS
    while (state := await inspect(connection, dead_queue(queue))).consumers:
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    return state.messages


async def inspect(connection: Connection, queue: str) -> QueueState:
    """What waits in any queue just now, and who consumes it. Raises NotFound, or another BrokerUnavailable."""
    channel = await connection.channel()
    try:
        return await channel.inspect(queue)
    finally:
        await channel.close()


async def _read(connection: Connection, queue: str, owed: int, windows: "list[_Window]") -> AsyncGenerator[Held]:
    while owed > 0:
        window = await _Window.open(connection, queue)
        windows.append(window)
        while owed > 0 and window.kept < WINDOW:
            held = await window.next()
            if held is None:
                return
            owed -= 1
            yield held


async def _give_back(windows: "Sequence[_Window]") -> None:
    """All consumers end before the first message goes back, lest one gets what another returns; then in order."""
    for window in windows:
        await window.stop()
    for window in windows:
        await window.close()


async def _until_back(connection: Connection, queue: str, count: int) -> None:
    """The broker says that a channel is closed a moment before what it held is in the queue again."""
    deadline = asyncio.get_running_loop().time() + BACK_SECONDS
    while (await inspect(connection, dead_queue(queue))).messages < count:
        if asyncio.get_running_loop().time() > deadline:  # somebody else has taken or holds some
            return
        await asyncio.sleep(POLL_SECONDS)


class _Window:
    """One consumer with at most WINDOW unacknowledged messages. `kept` counts those that stay, `taken` the others."""

    def __init__(self, queue: str, channel: Channel) -> None:
        self._queue, self._channel = queue, channel
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._consumer_tag = ""
        self.kept = self.taken = 0

    @classmethod
    async def open(cls, connection: Connection, queue: str) -> "_Window":
        self = cls(queue, await connection.channel())
        await self._channel.qos(WINDOW)
        self._consumer_tag = await self._channel.consume(dead_queue(queue), self._arrived.put_nowait)
        return self

    async def next(self) -> Held | None:
        """The next one; None if none comes, because another reader holds it. Raises BrokerUnavailable."""
        try:
            delivery = self._arrived.get_nowait()
        except asyncio.QueueEmpty:
            try:
                delivery = await asyncio.wait_for(self._arrived.get(), QUIET_SECONDS)
            except TimeoutError:
                self._check_open()
                return None
        self.kept += 1
        return Held(DeadLetter.of(self._queue, delivery), delivery.tag, self)

    def take(self, tag: int) -> None:
        self._check_open()
        self._channel.ack(tag, multiple=False)
        self.kept -= 1
        self.taken += 1

    async def stop(self) -> None:
        """End the consumer, once nothing is on its way to it: that would go back at once, ahead of what we hold."""
        deadline = asyncio.get_running_loop().time() + BACK_SECONDS
        while self._has_room and (await self._channel.inspect(dead_queue(self._queue))).messages:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
        await self._channel.cancel(self._consumer_tag)

    async def close(self) -> None:
        await self._channel.close()

    @property
    def _has_room(self) -> bool:
        """Whether the broker may still deliver: to a full window it does not."""
        return self.kept + self._arrived.qsize() < WINDOW

    def _check_open(self) -> None:
        if not self._channel.is_open:
            raise BrokerUnavailable(f"the channel to {dead_queue(self._queue)} has closed, and its messages went back")

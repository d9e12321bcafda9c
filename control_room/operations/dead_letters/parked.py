"""Reads a queue's dead letters over AMQP, and puts all that were not removed back in their places.

AMQP has no way to read a queue without consuming. So the messages are consumed and not acknowledged, and go back when
the channels close; a quorum queue keeps their order. A consumer of a quorum queue may hold a limited number of
messages, so there is one consumer for each `WINDOW` of them; that also bounds the memory that is needed here.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

import shared.messaging.connection as amqp
from control_room.operations.dead_letters.dead_letter import DeadLetter
from shared.messaging.channel import BrokerUnavailable, Channel, QueueState
from shared.messaging.connection import Connection
from shared.messaging.message import Delivery
from shared.topology import dead_queue
from shared.waiting import poll

WINDOW = 500
SILENT_SECONDS = 5.0
"""If the broker has messages for us and sends none for so long, another consumer holds them."""
BACK_SECONDS = 2.0
ALONE_WITHIN_SECONDS = 10.0
POLL_SECONDS = 0.02


class Held(NamedTuple):
    """A dead letter that is held here. It goes back to its place, unless `take` removes it for good.

    `take` raises BrokerUnavailable if the channel has closed, and the message has gone back already.
    """

    dead_letter: DeadLetter
    take: Callable[[], None]


def connected(url: str) -> AbstractAsyncContextManager[Connection]:
    """A connection for dead letters. Raises BrokerUnavailable."""
    return amqp.connected(url, "order-rail dead letters")


async def inspect(connection: Connection, queue: str) -> QueueState:
    """How many messages any queue has now, and how many consumers. Raises NotFound, or another BrokerUnavailable."""
    channel = await connection.channel()
    try:
        return await channel.inspect(queue)
    finally:
        await channel.close()


@asynccontextmanager
async def dead_letters(connection: Connection, queue: str) -> AsyncIterator[AsyncIterator[Held]]:
    """The dead letters of `queue` that are there now, oldest first; not those that arrive meanwhile.

    At the end of the block those that were not taken are back in their places. Raises BrokerUnavailable, or NotFound if
    the queue is missing. A second reader waits up to ALONE_WITHIN_SECONDS for the first to end; it does not see what
    the first still holds after that.
    """
    alone = await poll(
        lambda: inspect(connection, dead_queue(queue)),
        within_seconds=ALONE_WITHIN_SECONDS,
        every_seconds=POLL_SECONDS,
        until=lambda state: not state.consumers,
    )
    windows: list[_Window] = []
    try:
        async with aclosing(_read(connection, queue, alone.messages, windows)) as found:
            yield found
    finally:
        with suppress(BrokerUnavailable):  # the broker puts everything back when a connection closes, too
            await _give_back(connection, queue, windows, alone.messages)


async def _read(connection: Connection, queue: str, count: int, windows: "list[_Window]") -> AsyncGenerator[Held]:
    while count > 0:
        window = await _Window.open(connection, queue)
        windows.append(window)
        while count > 0 and window.held < WINDOW:
            held = await window.next()
            if held is None:
                return
            count -= 1
            yield held


async def _give_back(connection: Connection, queue: str, windows: "Sequence[_Window]", count: int) -> None:
    """All consumers end before the first message goes back, or one would get what another returns; then in order.

    `count`: how many dead letters there were.
    """
    for window in windows:
        await window.stop()
    back = count - sum(window.taken + window.unacknowledged for window in windows)
    for window in windows:
        back += window.unacknowledged
        await window.channel.close()
        await _until_back(connection, queue, back)  # else those of the next channel may get ahead of them


async def _until_back(connection: Connection, queue: str, count: int) -> None:
    """The broker confirms that a channel is closed a moment before its messages are in the queue again.

    Another reader may take or hold some of them: so the wait ends after BACK_SECONDS.
    """
    await poll(
        lambda: inspect(connection, dead_queue(queue)),
        within_seconds=BACK_SECONDS,
        every_seconds=POLL_SECONDS,
        until=lambda state: state.messages >= count,
    )


class _Window:
    """A consumer with at most WINDOW unacknowledged messages: `held` go back, `taken` were removed."""

    def __init__(self, queue: str, channel: Channel) -> None:
        self._queue, self.channel = queue, channel
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()
        self._consumer_tag = ""
        self.held = self.taken = 0

    @classmethod
    async def open(cls, connection: Connection, queue: str) -> "_Window":
        self = cls(queue, await connection.channel())
        await self.channel.qos(WINDOW)
        self._consumer_tag = await self.channel.consume(dead_queue(queue), self._arrived.put_nowait)
        return self

    async def next(self) -> Held | None:
        """The next one; None if none arrives, because another reader holds it. Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                delivery = await self._arrived.get()
        except TimeoutError:
            self._check_open()
            return None
        self.held += 1
        dead_letter = DeadLetter(self._queue, delivery.message, delivery.undecodable)
        return Held(dead_letter, partial(self._take, delivery.tag))

    @property
    def unacknowledged(self) -> int:
        return self.held + self._arrived.qsize()

    def _take(self, tag: int) -> None:
        self._check_open()
        self.channel.ack(tag, multiple=False)
        self.held -= 1
        self.taken += 1

    async def stop(self) -> None:
        """End the consumer, once no message is on its way to it: that would go back at once, ahead of those held."""

        async def nothing_comes() -> bool:
            return self.unacknowledged >= WINDOW or not (await self.channel.inspect(dead_queue(self._queue))).messages

        await poll(nothing_comes, within_seconds=BACK_SECONDS, every_seconds=POLL_SECONDS)
        await self.channel.cancel(self._consumer_tag)

    def _check_open(self) -> None:
        if not self.channel.is_open:
            raise BrokerUnavailable(f"the channel to {dead_queue(self._queue)} has closed, and its messages went back")

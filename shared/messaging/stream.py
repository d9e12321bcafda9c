"""The stream that keeps events: copies are written to it in batches, and it is read from any point on, again and again.

A message of the stream is a list of events (the batch format of CloudEvents): so a copy costs a service hardly
anything, and reading is quick. On a stream, a consumer must set a prefetch and may only acknowledge: the broker closes
the connection for a nack, a get or a purge.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf
from typing import Literal

import structlog

from shared.contract import EVENTS
from shared.events import BATCH_CONTENT_TYPE
from shared.ids import new_id
from shared.messaging.channel import BrokerUnavailable, Channel, reason_of
from shared.messaging.connection import Connection, connected
from shared.messaging.message import Delivery, Message
from shared.messaging.publisher import Publisher, PublishError, Unroutable

OFFSET = "x-stream-offset"
"""Where a consumer begins; and the header with the place of each delivery."""
BATCH_BYTES = 1_000_000
PREFETCH = 50
"""Messages on their way to a reader: some megabytes."""
OFFSETS_OF_A_SEGMENT = 1
"""A segment begins with an entry of the broker's own, which is not delivered and has an offset."""
IDLE_SECONDS = 0.5
FIRST_SECONDS = 10.0
RECONNECT_SECONDS = 1.0
MISSING_SECONDS = 60.0
PATIENCE_SECONDS = 1.0
"""How long a caller waits for a batch to be written: as long as that it publishes nothing else."""
PAUSE_SECONDS = 30.0
"""For how long nothing is written to a stream that did not take a batch: each try may take seconds."""

logger = structlog.get_logger(__name__)


class NotCopied(PublishError):
    """The event was published, and its copy is not in the stream yet."""


class StreamWriter:
    """Writes copies of events, each at least once. A connection of its own, so that nothing else waits for the stream.

    A component of a service; it is never a reason not to be ready.
    """

    def __init__(self, url: str, name: str) -> None:
        self._publisher = Publisher(url, f"{name} events")
        self._next_at = 0.0
        self._missing_since: float | None = None
        self._writing: asyncio.Task[bool] | None = None

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    def problem(self) -> str | None:
        return None

    async def write(self, events: Sequence[Message]) -> bool:
        """Whether the stream has them; if not, they are to be written again later, though it may have them then.

        Where there has been no stream for a minute, nothing is kept: what it held is gone as well.
        """
        is_late = self._writing is not None and not self._writing.done()
        if not events or is_late or asyncio.get_running_loop().time() < self._next_at:
            return not events
        self._writing = asyncio.create_task(self._write(events), name="copies of events")
        await asyncio.wait([self._writing], timeout=PATIENCE_SECONDS)
        return self._writing.done() and self._writing.result()

    async def _write(self, events: Sequence[Message]) -> bool:
        loop = asyncio.get_running_loop()
        if not await self._is_connected():
            self._next_at = loop.time() + RECONNECT_SECONDS
            return False
        errors = await self._publisher.publish_all([_batch(bodies) for bodies in batches(events)])
        failures = [error for error in errors if error is not None]
        if not failures:
            self._missing_since = None
            return True
        is_missing = all(isinstance(error, Unroutable) for error in failures)
        return self._is_given_up(loop.time()) if is_missing else self._pause(failures[0], PAUSE_SECONDS)

    def _pause(self, error: object, seconds: float) -> bool:
        self._next_at = asyncio.get_running_loop().time() + seconds
        logger.warning("events.not_copied", error=str(error), again_in_seconds=seconds)
        return False

    def _is_given_up(self, now: float) -> bool:
        """Whether there has been no stream for long. A node that has just started finds its streams a moment later."""
        if self._missing_since is None:
            self._missing_since = now
            logger.warning("events.stream_missing", stream=EVENTS, hint="order-rail topology apply creates it")
        self._next_at = now + RECONNECT_SECONDS if now < self._missing_since + MISSING_SECONDS else 0.0
        return not self._next_at

    async def _is_connected(self) -> bool:
        """Waits a moment for the connection."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_SECONDS):
                await self._publisher.connected()
        return self._publisher.is_connected


def batches(events: Sequence[Message]) -> Iterator[list[bytes]]:
    """The bodies, in lists of about a megabyte at the most: a broker refuses messages of many megabytes."""
    bodies: list[bytes] = []
    size = 0
    for event in events:
        if bodies and size + len(event.body) > BATCH_BYTES:
            yield bodies
            bodies, size = [], 0
        bodies.append(event.body)
        size += len(event.body)
    if bodies:
        yield bodies


def _batch(bodies: Sequence[bytes]) -> Message:
    body = b"[" + b",".join(bodies) + b"]"
    return Message(exchange="", routing_key=EVENTS, body=body, message_id=new_id(), content_type=BATCH_CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class Position:
    """A message of the stream. Its id tells whether it is still the same stream."""

    offset: int
    message_id: str


Start = Literal["first"] | datetime | int | Position
"""Where reading begins: at the oldest message; at a chunk that ends after a time; at an offset; behind a message.

The broker stores and times messages in chunks. Its own "next" and "last" mean other messages after a reconnect.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of the stream."""

    offset: int
    message_id: str
    body: bytes

    @property
    def position(self) -> Position:
        return Position(self.offset, self.message_id)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What has arrived since the last one; nothing if the stream was quiet for a moment.

    `missing`: how many messages before and between these are gone at the most, since the stream was truncated. That
    happens to a slow reader too: the broker goes on with the oldest segment that is left, and does not tell.
    """

    entries: Sequence[Entry]
    missing: int = 0


class StreamReplaced(Exception):
    """This is not the stream that was read before: it was deleted and made anew."""


class StreamReader:
    """Reads a stream in order and for ever; after a loss of the connection it goes on behind what it has handed out.

    `problem`: why nothing can be read now, or None.
    """

    def __init__(self, url: str, name: str, start: Start, *, stream: str = EVENTS, prefetch: int = PREFETCH) -> None:
        self._url, self._name, self._stream, self._prefetch = url, f"{name} reader", stream, prefetch
        self._start = start
        self.problem: str | None = "not reading yet"

    async def read(self) -> AsyncGenerator[Arrival, None]:
        """Asking for the next arrival acknowledges the one before. Raises `StreamReplaced`."""
        while True:
            try:
                async with connected(self._url, self._name) as connection:
                    await self._expect_same_stream(connection)
                    async for arrival in self._consume(await connection.channel()):
                        yield arrival
            except BrokerUnavailable as error:
                if self.problem != str(error):
                    logger.warning("stream.not_read", stream=self._stream, error=str(error))
                self.problem = str(error)
            yield Arrival(())
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _expect_same_stream(self, connection: Connection) -> None:
        """RabbitMQ would send nothing from a stream that is shorter than the offset that is asked for."""
        if isinstance(self._start, Position):
            end = await _end(await connection.channel(), self._stream)
            if end is None or end < self._start.offset:
                raise self._replaced(self._start)

    def _replaced(self, start: Position) -> StreamReplaced:
        return StreamReplaced(
            f"the stream {self._stream} was made anew: offset {start.offset} is another message, or none"
        )

    async def _consume(self, channel: Channel) -> AsyncIterator[Arrival]:
        inbox = _Inbox(channel)
        start = self._start.offset if isinstance(self._start, Position) else self._start
        await channel.qos(self._prefetch)
        await channel.consume(self._stream, inbox.put, {OFFSET: start})
        self.problem = None
        while True:
            deliveries = await inbox.take()
            entries = [_entry(delivery) for delivery in deliveries]
            if entries:
                arrival = self._following(entries)
                self._start = entries[-1].position
                yield arrival
                channel.ack(deliveries[-1].tag, multiple=True)
            else:
                yield Arrival(())

    def _following(self, entries: list[Entry]) -> Arrival:
        """These entries, as they follow what came before."""
        start, known = self._start, entries[0].offset - 1
        if isinstance(start, int):
            known = start - 1
        elif isinstance(start, Position):
            first, known = entries[0], start.offset
            if first.offset < known or (first.offset == known and first.message_id != start.message_id):
                raise self._replaced(start)
            if first.offset == known:
                entries = entries[1:]
        offsets = [known, *(entry.offset for entry in entries)]
        gaps = [after - before - 1 for before, after in pairwise(offsets)]
        return Arrival(entries, missing=sum(gap for gap in gaps if gap > OFFSETS_OF_A_SEGMENT))


class _Inbox:
    """Deliveries of one channel that were not taken yet."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._deliveries: deque[Delivery] = deque()
        self._news = asyncio.Event()
        channel.closed.add_done_callback(lambda _: self._news.set())

    def put(self, delivery: Delivery) -> None:
        self._deliveries.append(delivery)
        self._news.set()

    async def take(self, seconds: float = IDLE_SECONDS) -> list[Delivery]:
        """All that have arrived, or none after a moment. Raises `BrokerUnavailable` if the channel has closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        if self._channel.closed.done():  # what had arrived could not be acknowledged: it comes again
            raise reason_of(self._channel.closed.result())
        self._news.clear()
        deliveries = list(self._deliveries)
        self._deliveries.clear()
        return deliveries


async def end_of(url: str, name: str, stream: str = EVENTS) -> int | None:
    """The offset of the newest message; None in an empty stream. Raises `BrokerUnavailable`, `NotFound`."""
    async with connected(url, f"{name} end") as connection:
        return await _end(await connection.channel(), stream)


async def _end(channel: Channel, stream: str) -> int | None:
    seconds = FIRST_SECONDS if (await channel.inspect(stream)).messages else IDLE_SECONDS
    inbox = _Inbox(channel)
    await channel.qos(PREFETCH)
    await channel.consume(stream, inbox.put, {OFFSET: "last"})
    newest, loop = None, asyncio.get_running_loop()
    end_at = inf  # the last chunk comes at once; what follows it while others write is not waited for
    while loop.time() < end_at and (deliveries := await inbox.take(seconds)):
        newest = _entry(deliveries[-1]).offset
        channel.ack(deliveries[-1].tag, multiple=True)
        end_at, seconds = min(end_at, loop.time() + IDLE_SECONDS), IDLE_SECONDS
    await channel.close()
    return newest


def _entry(delivery: Delivery) -> Entry:
    message = delivery.message
    return Entry(int(message.headers[OFFSET]), message.message_id or "", message.body)

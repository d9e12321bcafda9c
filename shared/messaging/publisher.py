"""Publish, and await the broker's confirm. A message that no queue takes is returned and counts as not published."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile

import structlog

from shared.messaging.channel import BrokerUnavailable, Channel, NotFound
from shared.messaging.connection import ConnectedComponent, Connection
from shared.messaging.message import Message
from shared.observability import metrics
from shared.observability.delivery_log import note_published

MAX_IN_FLIGHT = 1000
"""Unconfirmed messages at the most: pika buffers without a bound of its own."""

CONFIRM_TIMEOUT_SECONDS = 5.0
REOPEN_SECONDS = 0.5
REFUSALS_UNTIL_NEW_CHANNEL = 3

logger = structlog.get_logger(__name__)


class PublishError(Exception):
    """The message may not be in a queue. Publishing it again is safe: consumers are idempotent."""


class Unroutable(PublishError):
    """No queue is bound for it: the broker returned it."""


class Refused(PublishError):
    """The broker refused it (nack): the queue is full or could not take it."""


class Unconfirmed(PublishError):
    """The channel closed, or time ran out, before the confirm: the broker may have it or not."""


@dataclass(slots=True, eq=False)
class _Pending:
    """A published message. `outcome` resolves to None once it is confirmed, or to what went wrong."""

    message: Message
    outcome: asyncio.Future[PublishError | None]
    is_returned: bool = False

    def confirm(self, acked: bool) -> None:
        if self.is_returned:
            self.resolve(Unroutable(f"no queue takes it from exchange {self.message.exchange!r}"))
        else:
            self.resolve(None if acked else Refused("the broker refused it: is the queue full?"))

    def resolve(self, error: PublishError | None) -> None:
        result = "confirmed" if error is None else type(error).__name__.lower()
        metrics.publishes(self.message.exchange, result).inc()
        note_published(self.message, result)
        if not self.outcome.done():  # the caller may have been cancelled
            self.outcome.set_result(error)


class _ConfirmingChannel:
    """One channel in confirm mode, and the messages on it that the broker has not answered yet."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._sequence = 0
        self._pending: dict[int, _Pending] = {}

    async def start(self) -> None:
        await self._channel.confirm_select(self._on_confirm, self._on_return)

    def publish(self, message: Message) -> asyncio.Future[PublishError | None]:
        """The message's outcome to come. Raises `BrokerUnavailable`, before it is sent, if the channel is closed."""
        self._channel.publish(message)
        # The broker counts from 1 what it receives: count only now, since a publish that raised has sent nothing.
        self._sequence += 1
        outcome: asyncio.Future[PublishError | None] = self._loop.create_future()
        self._pending[self._sequence] = _Pending(message, outcome)
        return outcome

    def abandon(self, reason: str) -> None:
        """Close the channel; messages without an answer have an unknown outcome."""
        self._channel.discard(reason)
        pending, self._pending = self._pending, {}
        for entry in pending.values():
            entry.resolve(Unconfirmed(f"no confirm came: {reason}"))

    def _on_confirm(self, sequence: int, multiple: bool, acked: bool) -> None:
        oldest_first = takewhile(lambda number: number <= sequence, self._pending)
        for number in list(oldest_first) if multiple else [sequence]:
            entry = self._pending.pop(number, None)
            if entry is not None:
                entry.confirm(acked)

    def _on_return(self, message_id: str | None) -> None:
        # A return has no sequence number but precedes its confirm: it is the first of this id that is not marked yet.
        for entry in self._pending.values():
            if entry.message.message_id == message_id and not entry.is_returned:
                entry.is_returned = True
                return


class Publisher(ConnectedComponent):
    """One connection and one confirming channel, opened again whenever they are lost."""

    def __init__(self, url: str, name: str, *, exchanges: Sequence[str] = ()) -> None:
        super().__init__(url, f"{name} publisher")
        self._exchanges = exchanges
        self._connection: Connection | None = None
        self._channel: _ConfirmingChannel | None = None
        self._ready = asyncio.Event()
        self._capacity = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._refusals: Counter[str] = Counter()  # in a row, by destination

    @property
    def is_connected(self) -> bool:
        return self._ready.is_set()

    async def connected(self) -> None:
        """Wait until publishing is possible."""
        await self._ready.wait()

    def problem(self) -> str | None:
        """Why nothing can be published now, or None."""
        if self._is_blocked:
            return "RabbitMQ blocks publishers: it is out of memory or disk"
        return self._problem or (None if self._channel else "RabbitMQ is away: no channel yet")

    async def publish(self, message: Message) -> None:
        """Returns once the broker has confirmed it. Raises `BrokerUnavailable` or a kind of `PublishError`."""
        (error,) = await self.publish_all([message])
        if error is not None:
            raise error

    async def publish_all(self, messages: Sequence[Message]) -> list[PublishError | BrokerUnavailable | None]:
        """Publish them one after the other without waiting in between. For each the error, or None if confirmed."""
        sent = [await self._send(message) for message in messages]
        waiting = {outcome for outcome in sent if isinstance(outcome, asyncio.Future)}
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=CONFIRM_TIMEOUT_SECONDS)
            if late:
                self._leave_node(f"no confirm within {CONFIRM_TIMEOUT_SECONDS:g} s")
        outcomes = [outcome.result() if isinstance(outcome, asyncio.Future) else outcome for outcome in sent]
        self._count_refusals(messages, outcomes)
        return outcomes

    def _count_refusals(self, messages: Sequence[Message], outcomes: Sequence[object]) -> None:
        """After several in a row open a new channel: RabbitMQ 3.10 may refuse on the old one when there is room again.

        Counted by destination: that another queue takes its messages says nothing about the full one.
        """
        refused = {
            _destination(message)
            for message, outcome in zip(messages, outcomes, strict=True)
            if isinstance(outcome, Refused)
        }
        for destination in {_destination(message) for message in messages} - refused:
            self._refusals.pop(destination, None)
        self._refusals.update(refused)
        if any(self._refusals[destination] >= REFUSALS_UNTIL_NEW_CHANNEL for destination in refused):
            self._refusals.clear()
            self._leave_node("the broker goes on refusing messages")

    async def _send(self, message: Message) -> asyncio.Future[PublishError | None] | BrokerUnavailable:
        await self._capacity.acquire()
        try:
            outcome = (await self._open_channel()).publish(message)
        except BrokerUnavailable as error:
            self._capacity.release()
            return error
        outcome.add_done_callback(lambda _: self._capacity.release())
        return outcome

    @property
    def _is_blocked(self) -> bool:
        return self._connection is not None and not self._connection.unblocked.is_set()

    async def _open_channel(self) -> _ConfirmingChannel:
        """The channel, once the broker takes messages; a broker that blocks publishers is waited for."""
        if self._connection is not None and self._is_blocked:
            with suppress(TimeoutError):
                async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
                    await self._connection.unblocked.wait()
        problem = self.problem()
        if self._channel is None or problem is not None:
            raise BrokerUnavailable(problem)
        return self._channel

    async def _use(self, connection: Connection) -> None:
        """Keep a confirming channel open on this connection for as long as it lasts."""
        self._connection = connection
        try:
            while not connection.closed.done():
                try:
                    await self._use_channel(await connection.channel())
                except NotFound as error:
                    self._problem = f"topology missing: {error}"
                # A pause, since what closed the channel (no such exchange, no permission) may still be so.
                await asyncio.wait([connection.closed], timeout=REOPEN_SECONDS)
        finally:
            self._connection = None

    async def _use_channel(self, channel: Channel) -> None:
        for exchange in self._exchanges:
            await channel.expect_exchange(exchange)
        confirming = _ConfirmingChannel(channel)
        await confirming.start()
        self._channel, self._problem = confirming, None
        self._ready.set()
        reason: object = "stopped"
        try:
            reason = await asyncio.shield(channel.closed)
            logger.warning("publisher.channel_closed", connection=self._name, reason=str(reason))
        finally:
            self._leave_channel(f"RabbitMQ is away: {reason}")

    def _leave_node(self, reason: str) -> None:
        """Go to another node of a cluster; with a single one, to another channel."""
        connection = self._connection
        self._leave_channel(reason)
        if connection is not None:
            connection.leave(reason)

    def _leave_channel(self, reason: str) -> None:
        """Send nothing more on it; `_use` opens another."""
        self._ready.clear()
        self._problem = reason
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abandon(reason)


@asynccontextmanager
async def publishing(
    url: str, name: str, *, exchanges: Sequence[str] = (), within_seconds: float = 10.0
) -> AsyncIterator[Publisher]:
    """A publisher that is connected, for the length of the block. Raises `BrokerUnavailable` after `within_seconds`."""
    publisher = Publisher(url, name, exchanges=exchanges)
    await publisher.start()
    try:
        try:
            async with asyncio.timeout(within_seconds):
                await publisher.connected()
        except TimeoutError:
            raise BrokerUnavailable(publisher.problem() or "no connection to publish on") from None
        yield publisher
    finally:
        await publisher.stop()


def _destination(message: Message) -> str:
    """The exchange; for the default exchange the queue, which is its routing key."""
    return message.exchange or message.routing_key

"""Publish and await the broker's confirm. A message that no queue took comes back and counts as not published."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import structlog

from shared.messaging.channel import BrokerUnavailable, Channel, NotFound
from shared.messaging.connection import Connection, keep_connected
from shared.messaging.message import Message
from shared.observability import metrics
from shared.observability.delivery_log import note_published

MAX_IN_FLIGHT = 1000
"""Unconfirmed messages at the most: pika buffers without bound, so the bound is here."""

CONFIRM_TIMEOUT_SECONDS = 5.0
REOPEN_SECONDS = 0.5
REFUSALS_UNTIL_NEW_CHANNEL = 3

logger = structlog.get_logger(__name__)


class PublishError(Exception):
    """The message is not known to be in a queue. Publishing it again is safe: consumers are idempotent."""


class Unroutable(PublishError):
    """No queue is bound for it: the broker returned it."""


class Refused(PublishError):
    """The broker said no (nack): the queue is full or could not take it."""


class OutcomeUnknown(PublishError):
    """The connection closed, or time ran out, before the confirm: the broker may have it or not."""


Sending = asyncio.Future[PublishError | None]
"""Resolves to None once the message is confirmed, or to what went wrong."""


@dataclass(slots=True, eq=False)
class _Pending:
    message: Message
    outcome: Sending
    returned: bool = False


class _ConfirmingChannel:
    """One channel in confirm mode, and the messages on it that the broker has not answered yet."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._sequence = 0
        self._pending: dict[int, _Pending] = {}
        self.closed = channel.closed

    async def start(self) -> None:
        await self._channel.confirm_select(self._on_confirm, self._on_return)

    def send(self, message: Message) -> Sending:
        """Raises `BrokerUnavailable`, if the channel is closed, before anything is sent."""
        self._channel.publish(message)
        # From 1, and counted only now that the publish did not raise: the broker counts what it has received.
        self._sequence += 1
        outcome: Sending = self._loop.create_future()
        self._pending[self._sequence] = _Pending(message, outcome)
        return outcome

    def give_up(self, reason: str) -> None:
        """Close it, if it is not closed; what is unanswered has an unknown outcome."""
        self._channel.discard(reason)
        pending, self._pending = self._pending, {}
        for entry in pending.values():
            _settle(entry, OutcomeUnknown(f"no confirm came: {reason}"))

    def _on_confirm(self, sequence: int, multiple: bool, acked: bool) -> None:
        oldest_first = takewhile(lambda number: number <= sequence, self._pending)
        numbers = list(oldest_first) if multiple else [sequence]
        for number in numbers:
            entry = self._pending.pop(number, None)
            if entry is not None:
                _settle(entry, _error(entry, acked))

    def _on_return(self, message_id: str | None) -> None:
        # The return carries no sequence number, but precedes its own confirm: it is the first one still unmarked.
        for entry in self._pending.values():
            if entry.message.message_id == message_id and not entry.returned:
                entry.returned = True
                return


class Publisher:
    """One connection and one confirming channel, kept open for ever."""

    def __init__(self, url: str, name: str, *, exchanges: Sequence[str] = ()) -> None:
        self._url = url
        self._name = f"{name} publisher"
        self._exchanges = exchanges
        self._connection: Connection | None = None
        self._channel: _ConfirmingChannel | None = None
        self._ready = asyncio.Event()
        self._capacity = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._refusals: Counter[str] = Counter()  # in a row, by destination
        self._problem: str | None = "RabbitMQ is away: not connected yet"
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        return self._ready.is_set()

    async def connected(self) -> None:
        """Wait until publishing is possible."""
        await self._ready.wait()

    async def start(self) -> None:
        self._task = asyncio.create_task(keep_connected(self._url, self._name, self._use, self._say), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """Why nothing can be published now, or None."""
        if self._connection is not None and not self._connection.unblocked.is_set():
            return "RabbitMQ blocks publishers: it is out of memory or disk"
        return self._problem

    async def publish(self, message: Message) -> None:
        """Returns once the broker has confirmed it. Raises `BrokerUnavailable` or a kind of `PublishError`."""
        (error,) = await self.publish_all([message])
        if error is not None:
            raise error

    async def publish_all(self, messages: Sequence[Message]) -> list[PublishError | BrokerUnavailable | None]:
        """Publish them one behind the other without waiting in between; what became of each, None for confirmed."""
        sent = [await self._send(message) for message in messages]
        waiting = {sending for sending in sent if isinstance(sending, asyncio.Future)}
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=CONFIRM_TIMEOUT_SECONDS)
            if late:
                self._leave_channel(f"no confirm within {CONFIRM_TIMEOUT_SECONDS:g} s")
        outcomes = [sending.result() if isinstance(sending, asyncio.Future) else sending for sending in sent]
        self._count_refusals(messages, outcomes)
        return outcomes

    def _count_refusals(self, messages: Sequence[Message], outcomes: Sequence[object]) -> None:
        """After some in a row, try a new channel: RabbitMQ 3.10 may refuse on the old one when there is room again.

        Each destination has its own count: that another queue takes its messages says nothing of the full one.
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
            self._leave_channel("the broker goes on refusing messages")

    async def _send(self, message: Message) -> Sending | BrokerUnavailable:
        await self._capacity.acquire()
        try:
            sending = (await self._open_channel()).send(message)
        except BrokerUnavailable as error:
            self._capacity.release()
            return error
        sending.add_done_callback(lambda _: self._capacity.release())
        return sending

    async def _open_channel(self) -> _ConfirmingChannel:
        """The channel, once the broker takes messages."""
        if self._connection is not None and not self._connection.unblocked.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._connection.unblocked.wait(), CONFIRM_TIMEOUT_SECONDS)
        if self._channel is None or self.problem() is not None:
            raise BrokerUnavailable(self.problem() or "the channel has just closed")
        return self._channel

    async def _use(self, connection: Connection) -> None:
        """Keep a confirming channel open on this connection for as long as it lasts."""
        self._connection = connection
        try:
            while not connection.closed.done():
                try:
                    await self._use_channel(await connection.channel())
                except NotFound as error:
                    self._say(f"topology missing: {error}")
                # A pause, since what closed the channel (no such exchange, no right to it) may still be so.
                await asyncio.wait([connection.closed], timeout=REOPEN_SECONDS)
        finally:
            self._connection = None

    async def _use_channel(self, channel: Channel) -> None:
        for exchange in self._exchanges:
            await channel.expect_exchange(exchange)
        confirming = _ConfirmingChannel(channel)
        await confirming.start()
        self._channel = confirming
        self._say(None)
        self._ready.set()
        reason: object = "stopped"
        try:
            reason = await asyncio.shield(channel.closed)
            logger.warning("publisher channel closed", connection=self._name, reason=str(reason))
        finally:
            self._leave_channel(f"RabbitMQ is away: {reason}")

    def _leave_channel(self, reason: str) -> None:
        """Nothing more is sent on it; `_use` opens another."""
        self._ready.clear()
        self._say(reason)
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.give_up(reason)

    def _say(self, problem: str | None) -> None:
        self._problem = problem


def _destination(message: Message) -> str:
    """The exchange; for the default exchange the queue, which is what the routing key names there."""
    return message.exchange or message.routing_key


def _error(entry: _Pending, acked: bool) -> PublishError | None:
    if entry.returned:
        return Unroutable(f"no queue takes it from exchange {entry.message.exchange!r}")
    return None if acked else Refused("the broker refused it: is the queue full?")


def _settle(entry: _Pending, error: PublishError | None) -> None:
    result = _result(error)
    metrics.published.labels(entry.message.exchange, result).inc()
    note_published(entry.message, result)
    if not entry.outcome.done():
        entry.outcome.set_result(error)


def _result(error: PublishError | None) -> str:
    return "confirmed" if error is None else type(error).__name__.lower()

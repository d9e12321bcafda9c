"""Publish and await the broker's confirm. A message that no queue took comes back and counts as not published."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from shared import metrics
from shared.messaging.connection import BrokerUnavailable, Channel, Connection, NotFound, keep_connected
from shared.messaging.message import Message

MAX_IN_FLIGHT = 1000
"""Unconfirmed messages at the most: pika buffers without bound, so the bound is here."""

CONFIRM_TIMEOUT_SECONDS = 10.0
REOPEN_SECONDS = 0.5

logger = structlog.get_logger(__name__)


class PublishError(Exception):
    """The message is not known to be in a queue. Publishing it again is safe: consumers are idempotent."""


class Unroutable(PublishError):
    """No queue is bound for it: the broker returned it."""


class Refused(PublishError):
    """The broker said no (nack): the queue is full or could not take it."""


class OutcomeUnknown(PublishError):
    """The connection closed, or time ran out, before the confirm: the broker may have it or not."""


@dataclass(slots=True, eq=False)
class _Pending:
    message_id: str | None
    exchange: str
    outcome: "asyncio.Future[PublishError | None]"
    returned: bool = False


class Publisher:
    """One connection and one channel in confirm mode, kept open for ever."""

    def __init__(self, url: str, name: str, *, exchanges: Sequence[str] = ()) -> None:
        self._url = url
        self._name = f"{name} publisher"
        self._exchanges = exchanges
        self._channel: Channel | None = None
        self._connection: Connection | None = None
        self._ready = asyncio.Event()
        self._sequence = 0
        self._pending: dict[int, _Pending] = {}
        self._capacity = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._problem: str | None = "RabbitMQ is away: not connected yet"
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        return self._ready.is_set()

    @property
    def in_flight(self) -> int:
        """How many messages are sent and not yet confirmed."""
        return len(self._pending)

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

    async def connected(self) -> None:
        """Wait until publishing is possible."""
        await self._ready.wait()

    async def publish(self, message: Message) -> None:
        """Returns once the broker has confirmed it. Raises `BrokerUnavailable` or a kind of `PublishError`."""
        (error,) = await self.publish_all([message])
        if error is not None:
            raise error

    async def publish_all(self, messages: Sequence[Message]) -> list[PublishError | BrokerUnavailable | None]:
        """Publish them one behind the other without waiting in between; returns what became of each.

        None: confirmed.
        """
        sent = [await self._send(message) for message in messages]
        waiting = {sending for sending in sent if isinstance(sending, asyncio.Future)}
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=CONFIRM_TIMEOUT_SECONDS)
            for sending in late:
                sending.set_result(OutcomeUnknown(f"no confirm within {CONFIRM_TIMEOUT_SECONDS:g} s"))
        return [sending.result() if isinstance(sending, asyncio.Future) else sending for sending in sent]

    async def _send(self, message: Message) -> "asyncio.Future[PublishError | None] | BrokerUnavailable":
        await self._capacity.acquire()
        try:
            (await self._open_channel()).publish(message)
        except BrokerUnavailable as error:
            self._capacity.release()
            return error
        # From 1, and counted only now that the publish did not raise: the broker counts what it has received.
        self._sequence += 1
        outcome: asyncio.Future[PublishError | None] = asyncio.get_running_loop().create_future()
        outcome.add_done_callback(lambda _: self._capacity.release())
        self._pending[self._sequence] = _Pending(message.message_id, message.exchange, outcome)
        return outcome

    async def _open_channel(self) -> Channel:
        """The channel, once the broker takes messages."""
        if self._connection is not None and not self._connection.unblocked.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._connection.unblocked.wait(), CONFIRM_TIMEOUT_SECONDS)
        if self._channel is None or self.problem() is not None:
            raise BrokerUnavailable(self.problem() or "the connection has just closed")
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
            raise connection.closed.result()
        finally:
            self._connection = None

    async def _use_channel(self, channel: Channel) -> None:
        for exchange in self._exchanges:
            await channel.expect_exchange(exchange)
        await channel.confirm_select(self._on_confirm, self._on_return)
        self._channel, self._sequence = channel, 0
        self._say(None)
        self._ready.set()
        try:
            reason = await asyncio.shield(channel.closed)
            self._say(f"RabbitMQ is away: {reason}")
            logger.warning("publisher channel closed", connection=self._name, reason=str(reason))
        finally:
            self._ready.clear()
            self._channel = None
            self._fail_pending()

    def _on_confirm(self, sequence: int, multiple: bool, acked: bool) -> None:
        if multiple:
            confirmed = [number for number in self._pending if number <= sequence]
        else:
            confirmed = [sequence] if sequence in self._pending else []
        for number in confirmed:
            self._settle(self._pending.pop(number), acked)

    def _on_return(self, message_id: str | None) -> None:
        # The return carries no sequence number, but precedes its own confirm: it is the first one still unmarked.
        for pending in self._pending.values():
            if pending.message_id == message_id and not pending.returned:
                pending.returned = True
                return

    def _settle(self, pending: _Pending, acked: bool) -> None:
        error: PublishError | None = None
        if pending.returned:
            error = Unroutable(f"no queue takes it from exchange {pending.exchange!r}")
        elif not acked:
            error = Refused("the broker refused it: is the queue full?")
        metrics.published.labels(pending.exchange, _result(error)).inc()
        if not pending.outcome.done():
            pending.outcome.set_result(error)

    def _fail_pending(self) -> None:
        pending, self._pending = self._pending, {}
        for entry in pending.values():
            error = OutcomeUnknown("the channel closed before the confirm")
            metrics.published.labels(entry.exchange, _result(error)).inc()
            if not entry.outcome.done():
                entry.outcome.set_result(error)

    def _say(self, problem: str | None) -> None:
        self._problem = problem


def _result(error: PublishError | None) -> str:
    return "confirmed" if error is None else type(error).__name__.lower()

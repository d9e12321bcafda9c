"""A delivery: decode -> handle -> settle. The only acknowledgements in the code base are here.

One task works on each delivery, and prefetch bounds their number. Outcomes are carried out in order of safety: a
retry or a dead letter is published and confirmed before the original is acknowledged, so that a crash in between
gives a duplicate and never a loss.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from shared import metrics
from shared.events import AnyEvent, Event, UnreadableEvent, decode
from shared.messaging import message as headers
from shared.messaging.connection import BrokerUnavailable, Channel, Connection, NotFound, keep_connected
from shared.messaging.message import Delivery, Message
from shared.messaging.publisher import Publisher, PublishError
from shared.messaging.retry import (
    Ack,
    DeadLetter,
    NotReady,
    Outcome,
    PermanentError,
    Retry,
    RetryPolicy,
    TransientError,
)
from shared.topology import dead_queue, retry_queue
from shared.tracing import start_span

IN_PROCESS_TRIES = 2
"""Tries within one attempt: a hiccup is over in a moment and not worth the way through a retry queue."""

MAX_HOLD_DELAY_SECONDS = 3.0
TOPOLOGY_POLL_SECONDS = 1.0
ERROR_LENGTH = 500

logger = structlog.get_logger(__name__)

Handler = Callable[[Any, int], Awaitable[Ack]]
"""`handler(event, attempt)`: does the work durably, then returns `DONE` or `DUPLICATE`; raises to fail."""

GiveUp = Callable[[Any, int, str], Awaitable[None]]
"""`give_up(event, attempts, error)`: tells others, durably, that this event is about to be dead-lettered."""


@dataclass(frozen=True)
class Subscription:
    """What a service does with one queue: a handler for each event type, and how many deliveries at once."""

    queue: str
    handlers: Mapping[type[Event], Handler]
    concurrency: int
    give_up: GiveUp | None = None


class Consumer:
    """Consumes one service's queues over one connection, a channel each."""

    def __init__(
        self, url: str, name: str, subscriptions: Sequence[Subscription], publisher: Publisher, policy: RetryPolicy
    ) -> None:
        self._url = url
        self._name = f"{name} consumer"
        self._queues = [_QueueConsumer(subscription, publisher, policy) for subscription in subscriptions]
        self._problem: str | None = "RabbitMQ is away: not connected yet"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(keep_connected(self._url, self._name, self._use, self._say), name=self._name)

    async def stop(self) -> None:
        """Take no more deliveries, finish those at hand, acknowledge them, disconnect."""
        await asyncio.gather(*(queue.drain() for queue in self._queues))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """Why this service does not consume now, or None."""
        return self._problem or next((queue.problem for queue in self._queues if queue.problem), None)

    async def _use(self, connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(queue.keep_consuming(connection))

    def _say(self, problem: str | None) -> None:
        self._problem = problem


class _QueueConsumer:
    """One queue: opens a channel, consumes, and opens another whenever that one ends."""

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        self._subscription = subscription
        self._queue = subscription.queue
        self._processor = _Processor(subscription, publisher, policy)
        self._channel: Channel | None = None
        self._consumer_tag: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self.problem: str | None = f"not consuming {subscription.queue} yet"

    async def keep_consuming(self, connection: Connection) -> None:
        while not connection.closed.done() and not self._draining:
            try:
                reason: Exception = await self._consume(await connection.channel())
            except BrokerUnavailable as error:
                reason = error
            self.problem = f"not consuming {self._queue}: {reason}"
            logger.warning("consuming stopped", queue=self._queue, reason=str(reason),
                           missing=isinstance(reason, NotFound))  # fmt: skip
            await asyncio.wait([connection.closed], timeout=TOPOLOGY_POLL_SECONDS)

    async def _consume(self, channel: Channel) -> Exception:
        acknowledger = _Acknowledger(channel)
        await channel.qos(self._subscription.concurrency)
        self._consumer_tag = await channel.consume(self._queue, lambda delivery: self._take(delivery, acknowledger))
        self._channel, self.problem = channel, None
        try:
            return await asyncio.shield(channel.closed)
        finally:
            self._channel = None

    def _take(self, delivery: Delivery, acknowledger: "_Acknowledger") -> None:
        acknowledger.expect(delivery.tag)
        task = asyncio.create_task(self._processor.process(delivery, acknowledger))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        self._draining = True
        with contextlib.suppress(BrokerUnavailable):  # nothing more arrives on a closed channel either
            if self._channel is not None and self._consumer_tag is not None:
                await self._channel.cancel(self._consumer_tag)
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            for task in self._tasks:  # time ran out: unacknowledged, so the broker delivers them to someone else
                task.cancel()


class _Processor:
    """The named steps of one delivery."""

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        self._queue = subscription.queue
        self._handlers = {event.model_fields["type"].default: handler
                          for event, handler in subscription.handlers.items()}  # fmt: skip
        self._give_up = subscription.give_up
        self._publisher = publisher
        self._policy = policy

    async def process(self, delivery: Delivery, acknowledger: "_Acknowledger") -> None:
        started = time.perf_counter()
        try:
            outcome = await self._decide(delivery)
            await self._settle(delivery, outcome, acknowledger)
        except Exception:  # a fault of ours: the delivery stays unsettled, and its channel will not outlive this
            logger.exception("delivery could not be settled", queue=self._queue)
            acknowledger.abandon()
            return
        metrics.handling_seconds.labels(self._queue).observe(time.perf_counter() - started)

    async def _decide(self, delivery: Delivery) -> Outcome:
        try:
            event, handler = self._read(delivery)
        except UnreadableEvent as error:
            return DeadLetter(error.reason, str(error))
        start_span(event.traceparent)
        return await self._handle(event, handler, delivery.attempt)

    def _read(self, delivery: Delivery) -> tuple[AnyEvent, Handler]:
        if delivery.undecodable is not None:
            raise UndecodableProperties(delivery.undecodable)
        event = decode(delivery.message.body)
        handler = self._handlers.get(event.type)
        if handler is None:
            raise NotForThisQueue(f"{self._queue} takes {sorted(self._handlers)}, got {event.type}")
        return event, handler

    async def _handle(self, event: AnyEvent, handler: Handler, attempt: int) -> Outcome:
        try:
            return await self._try(handler, event, attempt)
        except PermanentError as error:
            outcome: Retry | DeadLetter = DeadLetter(error.reason, _writable(str(error)))
        except TransientError as error:
            outcome = self._policy.after_failure(attempt, _text(error))
        except Exception as error:  # a bug or a surprise: given the same chances, then set aside where it can be seen
            logger.exception("handler failed", queue=self._queue, event_id=event.id)
            outcome = self._policy.after_failure(attempt, _text(error))
        if isinstance(outcome, DeadLetter):
            await self._tell_of(outcome, event, attempt)
        return outcome

    async def _tell_of(self, outcome: DeadLetter, event: AnyEvent, attempt: int) -> None:
        try:
            if self._give_up is not None:
                await self._hold(self._give_up, event, attempt, outcome.error)
        except Exception:  # the same bug again, as likely as not: parked without a word is better than never parked
            logger.exception("could not tell of a dead letter", queue=self._queue, event_id=event.id)

    async def _try(self, handler: Handler, event: AnyEvent, attempt: int) -> Ack:
        tries = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(IN_PROCESS_TRIES),
            wait=wait_random_exponential(multiplier=0.05, max=0.5),
            reraise=True,
        )
        return await tries(self._hold, handler, event, attempt)

    async def _hold(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call it, and again for as long as we are not ready ourselves: no message pays for that with an attempt."""
        patience = AsyncRetrying(
            retry=retry_if_exception_type(NotReady),
            wait=wait_random_exponential(multiplier=0.2, max=MAX_HOLD_DELAY_SECONDS),
        )
        return await patience(function, *arguments)

    async def _settle(self, delivery: Delivery, outcome: Outcome, acknowledger: "_Acknowledger") -> None:
        match outcome:
            case Ack(duplicate=True):
                metrics.duplicates.labels(self._queue).inc()
            case Retry():
                logger.info("retry", queue=self._queue, message_id=delivery.message.message_id,
                            attempt=delivery.attempt, delay_seconds=outcome.delay_seconds,
                            error=outcome.error)  # fmt: skip
                await self._move(_retried(self._queue, delivery, outcome), acknowledger)
            case DeadLetter():
                logger.warning("dead letter", queue=self._queue, message_id=delivery.message.message_id,
                               reason=outcome.reason, error=outcome.error)  # fmt: skip
                await self._move(_parked(self._queue, delivery, outcome), acknowledger)
        if acknowledger.is_open:
            metrics.settled.labels(self._queue, type(outcome).__name__.lower()).inc()
        acknowledger.settle(delivery.tag)

    async def _move(self, message: Message, acknowledger: "_Acknowledger") -> None:
        """Publish it to the next queue, however long that takes, unless the delivery has become someone else's."""
        patience = AsyncRetrying(
            retry=retry_if_exception_type((PublishError, BrokerUnavailable)),
            stop=lambda _state: not acknowledger.is_open,
            wait=wait_random_exponential(multiplier=0.2, max=MAX_HOLD_DELAY_SECONDS),
        )
        with contextlib.suppress(RetryError):
            await patience(self._publisher.publish, message)


class UndecodableProperties(UnreadableEvent):
    reason = "undecodable-properties"


class NotForThisQueue(UnreadableEvent):
    reason = "not-for-this-queue"


def _retried(queue: str, delivery: Delivery, outcome: Retry) -> Message:
    return _redirected(
        delivery,
        retry_queue(queue, outcome.delay_seconds),
        {headers.ATTEMPT: delivery.attempt + 1, headers.LAST_ERROR: outcome.error[:ERROR_LENGTH]},
    )


def _parked(queue: str, delivery: Delivery, outcome: DeadLetter) -> Message:
    return _redirected(
        delivery,
        dead_queue(queue),
        {
            headers.ATTEMPT: delivery.attempt,
            headers.DEAD_LETTER_REASON: outcome.reason,
            headers.DEAD_LETTER_ERROR: outcome.error[:ERROR_LENGTH],
            headers.DEAD_LETTER_ATTEMPTS: delivery.attempt,
            headers.DEAD_LETTER_QUEUE: queue,
            headers.DEAD_LETTER_AT: _now(),
        },
    )


def _redirected(delivery: Delivery, queue: str, added: dict[str, Any]) -> Message:
    """The message for another queue through the default exchange, with our own headers and no one else's."""
    given = delivery.message.headers
    kept = {name: given[name] for name in headers.KEPT if isinstance(given.get(name), str | int)}
    return replace(
        delivery.message, exchange="", routing_key=queue, headers={headers.FIRST_SEEN: _now(), **kept, **added}
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(error: Exception) -> str:
    return _writable(f"{type(error).__name__}: {error}")


def _writable(text: str) -> str:
    """Without the lone surrogates that stand for bytes that are no UTF-8, as in a mail server's answer in Latin-1."""
    return text.encode(errors="replace").decode()


class _Acknowledger:
    """Acknowledges the deliveries of one channel generation, many with one frame where they are neighbours.

    Once the channel is closed its tags mean nothing: outcomes are dropped, and the broker redelivers.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._settled: dict[int, bool] = {}  # delivery tag -> settled, in order of arrival
        self._flush_planned = False

    @property
    def is_open(self) -> bool:
        return self._channel.is_open

    def expect(self, tag: int) -> None:
        self._settled[tag] = False

    def settle(self, tag: int) -> None:
        self._settled[tag] = True
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def abandon(self) -> None:
        """Give every unsettled delivery of this channel back to the broker, by closing it."""
        self._channel.discard("a delivery could not be settled")

    def _flush(self) -> None:
        """One `multiple` for the settled prefix; single ones behind the first gap, so that no one waits for it."""
        self._flush_planned = False
        prefix_end = None
        for tag, is_settled in self._settled.items():
            if not is_settled:
                break
            prefix_end = tag
        if prefix_end is not None:
            self._channel.ack(prefix_end, multiple=True)
        for tag in [tag for tag, is_settled in self._settled.items() if is_settled]:
            del self._settled[tag]
            if prefix_end is None or tag > prefix_end:
                self._channel.ack(tag, multiple=False)

"""One delivery: decode -> handle -> settle.

Outcomes are carried out in order of safety: a retry or a dead letter is published and confirmed before the original
is acknowledged, so that a crash in between gives a duplicate and never a loss.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, wait_random_exponential

from shared.contract import SECOND_TRY_SECONDS
from shared.events import Event, UnreadableEvent, decode
from shared.messaging import message as headers
from shared.messaging.acknowledger import Acknowledger
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.hold import until_ready
from shared.messaging.message import Delivery, Message
from shared.messaging.publisher import Publisher, PublishError
from shared.messaging.retry import (
    DUPLICATE,
    Ack,
    DeadLetter,
    NotReady,
    Outcome,
    OutcomeUnknown,
    PermanentError,
    Retry,
    RetryPolicy,
    TransientError,
)
from shared.observability import metrics
from shared.observability.delivery_log import note_handled
from shared.observability.tracing import start_span
from shared.topology import dead_queue, retry_queue

MAX_HICCUP_SECONDS = 0.1
MAX_MOVE_PAUSE_SECONDS = 3.0

HOLD_SECONDS = 300.0
"""A delivery that is held for longer goes through a retry queue, without having spent an attempt.

RabbitMQ takes back what nobody has acknowledged for half an hour, and counts that toward the delivery limit.
"""

ERROR_LENGTH = 500

logger = structlog.get_logger(__name__)

Handler = Callable[[Any, int], Awaitable[Ack]]
"""`handler(event, attempt)`: does the work durably, then returns `DONE` or `DUPLICATE`; raises to fail."""

GiveUp = Callable[[Any, int, str], Awaitable[bool]]
"""`give_up(event, attempts, error)`: records and publishes, durably, that this event is about to be dead-lettered.

Returns False where the work turns out to be done already: then there is nothing to give up.
"""


@dataclass(frozen=True)
class Subscription:
    """What a service does with one queue: a handler for each event type, and how many deliveries at once."""

    queue: str
    handlers: Mapping[type[Event], Handler]
    concurrency: int
    give_up: GiveUp | None = None


class Processor:
    """The named steps of one delivery."""

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        self._queue = subscription.queue
        self._handlers = {event.type_name(): handler for event, handler in subscription.handlers.items()}
        self._tell = subscription.give_up
        self._publisher = publisher
        self._policy = policy
        self._hold_seconds = HOLD_SECONDS if policy.delays_seconds else None
        self._held = 0

    async def process(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        started = time.perf_counter()
        try:
            outcome = await self._decide(delivery)
            await self._settle(delivery, outcome, acknowledger)
        except Exception:  # a fault of ours: the delivery stays unsettled, and its channel will not outlive this
            acknowledger.abandon()
            logger.exception("delivery could not be settled", queue=self._queue)
            return
        metrics.handling_seconds.labels(self._queue).observe(time.perf_counter() - started)

    async def _decide(self, delivery: Delivery) -> Outcome:
        try:
            event, handler = self._read(delivery)
        except UnreadableEvent as error:
            return DeadLetter(error.reason, str(error))
        start_span(event.traceparent)
        return await self._handle(event, handler, delivery.attempt)

    def _read(self, delivery: Delivery) -> tuple[Event, Handler]:
        if delivery.undecodable is not None:
            raise UndecodableProperties(delivery.undecodable)
        event = decode(delivery.message.body)
        handler = self._handlers.get(event.type)
        if handler is None:
            raise NotForThisQueue(f"{self._queue} takes {sorted(self._handlers)}, got {event.type}")
        return event, handler

    async def _handle(self, event: Event, handler: Handler, attempt: int) -> Outcome:
        try:
            return await self._try(handler, event, attempt)
        except NotReady as error:
            return self._policy.after_hold(_text(error))
        except PermanentError as error:
            outcome: Retry | DeadLetter = DeadLetter(error.reason, _writable(str(error)))
        except TransientError as error:
            outcome = self._policy.after_failure(attempt, _text(error))
        except Exception as error:  # a bug or a surprise: given the same chances, then set aside where it can be seen
            logger.exception("handler failed", queue=self._queue, event_id=event.id)
            outcome = self._policy.after_failure(attempt, _text(error))
        if isinstance(outcome, DeadLetter):
            return await self._give_up(outcome, event, attempt)
        return outcome

    async def _give_up(self, outcome: DeadLetter, event: Event, attempt: int) -> Outcome:
        """Tell of it, unless another delivery has done the work meanwhile."""
        if self._tell is None:
            return outcome
        try:
            return outcome if await self._hold(self._tell, event, attempt, outcome.error) else DUPLICATE
        except NotReady as error:
            return self._policy.after_hold(_text(error))
        except Exception:  # the same bug again, as likely as not: parked without a word is better than never parked
            logger.exception("could not tell of a dead letter", queue=self._queue, event_id=event.id)
            return outcome

    async def _try(self, handler: Handler, event: Event, attempt: int) -> Ack:
        """Two tries within one attempt: a hiccup is over in a moment, and not worth the way through a retry queue."""
        started = time.monotonic()
        try:
            done: Ack = await self._hold(handler, event, attempt)
        except OutcomeUnknown:  # a second try at once could repeat what has happened
            raise
        except TransientError:
            if time.monotonic() - started > SECOND_TRY_SECONDS:  # no hiccup, and the second may take as long again
                raise
            await asyncio.sleep(random.uniform(0, MAX_HICCUP_SECONDS))
            done = await self._hold(handler, event, attempt)
        return done

    async def _hold(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call it, and again for as long as we are not ready ourselves: no message pays for that with an attempt.

        Raises `NotReady` after `HOLD_SECONDS`.
        """
        try:
            return await function(*arguments)
        except NotReady as error:
            self._count_held(+1)
            if self._held == 1:
                logger.warning("deliveries are held", queue=self._queue, reason=str(error))
        try:
            return await until_ready(function, *arguments, limit_seconds=self._hold_seconds)
        finally:
            self._count_held(-1)
            if not self._held:
                logger.info("deliveries are no longer held", queue=self._queue)

    def _count_held(self, change: int) -> None:
        self._held += change
        metrics.held.labels(self._queue).set(self._held)

    async def _settle(self, delivery: Delivery, outcome: Outcome, acknowledger: Acknowledger) -> None:
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
        note_handled(self._queue, delivery, outcome, settled=acknowledger.is_open)
        acknowledger.settle(delivery.tag)

    async def _move(self, message: Message, acknowledger: Acknowledger) -> None:
        """Publish it to the next queue, however long that takes, unless the delivery has become someone else's."""
        patience = AsyncRetrying(
            retry=retry_if_exception_type((PublishError, BrokerUnavailable)),
            stop=lambda _state: not acknowledger.is_open,
            wait=wait_random_exponential(multiplier=0.2, max=MAX_MOVE_PAUSE_SECONDS),
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
        {
            headers.ATTEMPT: delivery.attempt + outcome.spends_attempt,
            headers.LAST_ERROR: outcome.error[:ERROR_LENGTH],
        },
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
    """Without what cannot be stored: lone surrogates, which stand for bytes that are no UTF-8, and NUL (PostgreSQL)."""
    return text.encode(errors="replace").decode().replace("\0", "?")

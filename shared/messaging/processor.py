"""What happens to one delivery: decode, handle, settle.

A retry or a dead letter is published and confirmed before the original is acknowledged, so that a crash in between
makes a duplicate and never a loss.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

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
    error_text,
)
from shared.observability import metrics
from shared.observability.delivery_log import note_handled
from shared.observability.tracing import start_span
from shared.topology import dead_queue, milliseconds, retry_queue

MAX_SECOND_TRY_PAUSE_SECONDS = 0.1
MAX_MOVE_PAUSE_SECONDS = 3.0

HOLD_SECONDS = 300.0
"""A delivery that is held for longer goes through a retry queue, without having spent an attempt.

RabbitMQ takes back a delivery that is not acknowledged within half an hour, and counts that toward the delivery limit.
"""

ERROR_LENGTH = 500

logger = structlog.get_logger(__name__)

Handler = Callable[[Any, int], Awaitable[Ack]]
"""`handler(event, attempt)`: does the work durably, then returns `DONE` or `DUPLICATE`; raises to fail."""

GiveUp = Callable[[Any, int, str], Awaitable[bool]]
"""`give_up(event, attempts, error)`: records and publishes, durably, that this event is about to be dead-lettered.

Returns False where the work turns out to be done: then there is nothing to give up.
"""


@dataclass(frozen=True)
class Subscription:
    """What a service does with one queue: a handler for each event type, and how many deliveries at once.

    `key_header`: of a partition; the assembly sets it. The deliveries of each key are handled one after the other.
    """

    queue: str
    handlers: Mapping[type[Event], Handler]
    concurrency: int
    give_up: GiveUp | None = None
    key_header: str = ""


class UndecodableProperties(UnreadableEvent):
    reason = "undecodable-properties"


class NotForThisQueue(UnreadableEvent):
    reason = "not-for-this-queue"


class Processor:
    """The steps of one delivery."""

    def __init__(self, subscription: Subscription, publisher: Publisher, policy: RetryPolicy) -> None:
        self._queue = subscription.queue
        self._handlers = {event.type_name(): handler for event, handler in subscription.handlers.items()}
        self._on_give_up = subscription.give_up
        self._publisher = publisher
        self._policy = policy
        self._hold_seconds = HOLD_SECONDS if policy.delays_seconds else None
        self._held = 0
        self._stopping = asyncio.Event()
        self._handling_seconds = metrics.handling_seconds.labels(self._queue)
        self._duplicates = metrics.duplicates.labels(self._queue)
        self._settled = {kind: metrics.settled.labels(self._queue, kind.__name__.lower()) for kind in get_args(Outcome)}

    def release(self) -> None:
        """Let go of every delivery that waits, now or later: not acknowledged, so that the broker redelivers it."""
        self._stopping.set()

    async def pause(self, seconds: float) -> None:
        """As `asyncio.sleep`; cancels the delivery once it is to be let go."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise asyncio.CancelledError("the service stops")

    async def process(self, delivery: Delivery, acknowledger: Acknowledger) -> None:
        started = time.perf_counter()
        try:
            delivery, outcome = await self._handle(delivery)
            await self._settle(delivery, outcome, acknowledger)
        except Exception:  # a fault of ours: closing the channel gives the delivery back to the broker
            acknowledger.abandon()
            logger.exception("delivery.not_settled", queue=self._queue)
            return
        self._handling_seconds.observe(time.perf_counter() - started)

    async def _handle(self, delivery: Delivery) -> tuple[Delivery, Outcome]:
        """Decode the message and give it to its handler; returns the last try at it, and what became of that."""
        try:
            event, handler = self._decode(delivery)
        except UnreadableEvent as error:
            return delivery, DeadLetter(error.reason, str(error))
        start_span(event.traceparent)
        started = time.monotonic()
        result = await self._try(handler, event, delivery)
        if isinstance(result, TransientError) and _is_tried_again_at_once(result, time.monotonic() - started):
            note_handled(self._queue, delivery, Retry(0, error_text(result)), settled=True)
            await asyncio.sleep(random.uniform(0, MAX_SECOND_TRY_PAUSE_SECONDS))
            delivery = replace(delivery, is_second_try=True)
            result = await self._try(handler, event, delivery)
        if isinstance(result, Ack):
            return delivery, result
        outcome = self._policy.outcome_of(result, delivery.retries + 1)
        if isinstance(outcome, DeadLetter):
            return delivery, await self._give_up(outcome, event, delivery.attempt)
        return delivery, outcome

    def _decode(self, delivery: Delivery) -> tuple[Event, Handler]:
        if delivery.undecodable is not None:
            raise UndecodableProperties(delivery.undecodable)
        event = decode(delivery.message.body)
        handler = self._handlers.get(event.type)
        if handler is None:
            raise NotForThisQueue(f"{self._queue} takes {sorted(self._handlers)}, got {event.type}")
        return event, handler

    async def _try(self, handler: Handler, event: Event, delivery: Delivery) -> Ack | Exception:
        try:
            return await self._hold(handler, event, delivery.attempt)  # type: ignore[no-any-return]
        except Exception as error:
            if not isinstance(error, NotReady | PermanentError | TransientError):  # a bug, retried as well
                logger.exception("delivery.handler_failed", queue=self._queue, event_id=event.id)
            return error

    async def _give_up(self, outcome: DeadLetter, event: Event, attempt: int) -> Outcome:
        """Let the service record the failure, unless another delivery has done the work meanwhile."""
        if self._on_give_up is None:
            return outcome
        try:
            return outcome if await self._hold(self._on_give_up, event, attempt, outcome.error) else DUPLICATE
        except NotReady as error:
            return self._policy.outcome_of(error, attempt)
        except Exception:  # a dead letter without a record is better than a message that is never parked
            logger.exception("delivery.give_up_failed", queue=self._queue, event_id=event.id)
            return outcome

    async def _hold(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Call it, again and again while it raises `NotReady`; after `HOLD_SECONDS` that is raised."""
        try:
            return await function(*arguments)
        except NotReady as error:
            self._count_held(+1)
            if self._held == 1:
                logger.warning("deliveries.held", queue=self._queue, reason=str(error))
        try:
            return await until_ready(function, *arguments, limit_seconds=self._hold_seconds, pause=self.pause)
        finally:
            self._count_held(-1)
            if not self._held:
                logger.info("deliveries.released", queue=self._queue)

    def _count_held(self, change: int) -> None:
        self._held += change
        metrics.held.labels(self._queue).set(self._held)

    async def _settle(self, delivery: Delivery, outcome: Outcome, acknowledger: Acknowledger) -> None:
        """Carry the outcome out. This is the only place that does."""
        decided_at, message_id = time.time(), delivery.message.message_id
        match outcome:
            case Ack(duplicate=True):
                self._duplicates.inc()
            case Retry(delay_seconds, error):
                logger.info("delivery.retried", queue=self._queue, message_id=message_id, attempt=delivery.attempt,
                            delay_seconds=delay_seconds, error=error)  # fmt: skip
                await self._move(_retried(self._queue, delivery, outcome), acknowledger)
            case DeadLetter(reason, error):
                logger.warning("delivery.dead_lettered", queue=self._queue, message_id=message_id,
                               reason=reason, error=error)  # fmt: skip
                await self._move(_parked(self._queue, delivery, outcome), acknowledger)
        if acknowledger.is_open:
            self._settled[type(outcome)].inc()
        note_handled(self._queue, delivery, outcome, settled=acknowledger.is_open, at=decided_at)
        acknowledger.settle(delivery.tag)

    async def _move(self, message: Message, acknowledger: Acknowledger) -> None:
        """Publish it to the next queue, however long that takes, as long as the delivery is still ours."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((PublishError, BrokerUnavailable)),
            stop=lambda _state: not acknowledger.is_open,
            wait=wait_random_exponential(multiplier=0.2, max=MAX_MOVE_PAUSE_SECONDS),
        )
        with contextlib.suppress(RetryError):
            await retrying(self._publisher.publish, message)


def _is_tried_again_at_once(error: TransientError, took_seconds: float) -> bool:
    """Most transient errors are over in a moment: a second try at once saves the way through a retry queue.

    Not where it could repeat what has happened, nor where it may take long again.
    """
    is_asked_to_wait = error.retry_after_seconds > 0
    return not (isinstance(error, OutcomeUnknown) or is_asked_to_wait) and took_seconds <= SECOND_TRY_SECONDS


def retry_headers(delivery: Delivery, outcome: Retry) -> dict[str, Any]:
    """What the message says of its tries so far when it is tried again."""
    return {
        headers.ATTEMPT: delivery.attempt + outcome.spends_attempt,
        headers.RETRIES: delivery.retries + outcome.spends_attempt,
        headers.LAST_ERROR: outcome.error[:ERROR_LENGTH],
    }


def _retried(queue: str, delivery: Delivery, outcome: Retry) -> Message:
    message = _redirected(delivery, retry_queue(queue, outcome.delay_seconds), retry_headers(delivery, outcome))
    # RabbitMQ 3.10 tells a new quorum queue its TTL only after others can publish to it. A message that comes between
    # would stay at its head for ever, and all others behind it.
    return replace(message, expires_after_milliseconds=milliseconds(outcome.delay_seconds))


def _parked(queue: str, delivery: Delivery, outcome: DeadLetter) -> Message:
    added = {
        headers.ATTEMPT: delivery.attempt,
        headers.DEAD_LETTER_REASON: outcome.reason,
        headers.DEAD_LETTER_ERROR: outcome.error[:ERROR_LENGTH],
        headers.DEAD_LETTER_ATTEMPTS: delivery.attempt,
        headers.DEAD_LETTER_QUEUE: queue,
        headers.DEAD_LETTER_AT: headers.header_time(),
    }
    return _redirected(delivery, dead_queue(queue), added)


def _redirected(delivery: Delivery, queue: str, added: dict[str, Any]) -> Message:
    """The message for another queue, by the default exchange. Of its headers only those in `KEPT_HEADERS` stay."""
    old = delivery.message.headers
    names = (*headers.KEPT_HEADERS, *headers.keys(old))
    kept = {name: old[name] for name in names if isinstance(old.get(name), str | int)}
    new_headers = {headers.FIRST_SEEN: headers.header_time(), **kept, **added}
    return replace(delivery.message, exchange="", routing_key=queue, headers=new_headers)

"""The consumer against a real broker: what it settles, how, and what survives lost connections and queues."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from shared import topology
from shared.events import Event, OrderPlaced, encode
from shared.ids import new_id
from shared.management import Management
from shared.messaging import hold, processor
from shared.messaging.consumer import Consumer
from shared.messaging.message import Message
from shared.messaging.processor import GiveUp, Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import DONE, Ack, NotReady, OutcomeUnknown, PermanentError, TransientError
from shared.settings import BrokerSettings
from shared.topology import provision
from tests import examples
from tests.amqp import arrivals, close_connection
from tests.support import eventually

QUEUE = "payment_service.charge"
CONCURRENCY = 10
DELAYS = (0.2, 0.5)  # as the fixture has them
DELIVERIES = len(DELAYS) + 1
ATTEMPTS = 2 * DELIVERIES  # with a second try at once on each


Handle = Callable[[OrderPlaced, int], Awaitable[Ack]]


class Recorder:
    """A handler that records its calls, and raises what `error_of` returns for an event and an attempt.

    Each call waits for `release` before it ends. `event` is the latest one.
    """

    def __init__(
        self,
        error_of: Callable[[Event, int], Exception | None] = lambda event, attempt: None,
        release: asyncio.Event | None = None,
    ) -> None:
        self._error_of, self._release = error_of, release
        self.event: OrderPlaced
        self.started: list[str] = []
        self.attempts: list[int] = []
        self.done: set[str] = set()

    async def __call__(self, event: OrderPlaced, attempt: int) -> Ack:
        self.event = event
        self.started.append(event.id)
        self.attempts.append(attempt)
        if self._release is not None:
            await self._release.wait()
        if error := self._error_of(event, attempt):
            raise error
        self.done.add(event.id)
        return DONE


def failing(error: Exception, *, attempts: int = ATTEMPTS) -> Recorder:
    """A handler whose first attempts at every event fail."""
    return Recorder(lambda event, attempt: error if attempt <= attempts else None)


@asynccontextmanager
async def consuming(
    settings: BrokerSettings, publisher: Publisher, handle: Handle, give_up: GiveUp | None = None
) -> AsyncIterator[Consumer]:
    subscription = Subscription(QUEUE, {OrderPlaced: handle}, CONCURRENCY, give_up)
    # A name of its own: for a while the broker still lists the connections of earlier tests.
    name = f"test {new_id()}"
    consumer = Consumer(settings.rabbitmq_url, name, [subscription], publisher, settings.retry_delays_of)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def place(publisher: Publisher, count: int = 1) -> list[str]:
    """Publish new orders; the ids of their events."""
    events = [examples.order_placed() for _ in range(count)]
    messages = [Message("orders", event.type, encode(event), message_id=event.id, type=event.type) for event in events]
    assert await publisher.publish_all(messages) == [None] * count
    return [event.id for event in events]


async def dead_letter(settings: BrokerSettings, publisher: Publisher, handle: Handle) -> Message:
    """The dead letter that one new order becomes."""
    async with consuming(settings, publisher, handle), arrivals(settings, topology.dead_queue(QUEUE)) as dead:
        await place(publisher)
        await eventually(lambda: dead, expecting="a dead letter")
    (message,) = dead
    return message


async def assert_nothing_is_left(settings: BrokerSettings, publisher: Publisher) -> None:
    """Neither in the queue nor among its dead letters: a marker published last is the first to arrive."""
    for queue in (QUEUE, topology.dead_queue(QUEUE)):
        async with arrivals(settings, queue) as remaining:
            await publisher.publish(Message("", queue, b"marker"))
            await eventually(remaining.__len__, expecting="the marker")
        assert [message.body for message in remaining] == [b"marker"]


async def test_what_is_handled_is_acknowledged(settings: BrokerSettings, publisher: Publisher) -> None:
    handle = Recorder()
    placed = await place(publisher, 500)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: len(handle.done) == 500, expecting="500 events to be handled")
    assert Counter(handle.started) == Counter(placed)
    await assert_nothing_is_left(settings, publisher)


async def test_no_more_deliveries_are_in_progress_than_the_concurrency_allows(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    in_progress, most, total = 0, 0, 0

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        nonlocal in_progress, most, total
        in_progress, total = in_progress + 1, total + 1
        most = max(most, in_progress)
        await asyncio.sleep(0.01)
        in_progress -= 1
        return DONE

    await place(publisher, 100)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: total == 100, expecting="100 deliveries")
    assert most == CONCURRENCY


async def test_a_slow_delivery_does_not_delay_the_acknowledgement_of_the_others(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    (slow,), release, fast = await place(publisher), asyncio.Event(), Recorder()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        if event.id == slow:
            await release.wait()
            return DONE
        return await fast(event, attempt)

    async with consuming(settings, publisher, handle):
        await place(publisher, 5 * CONCURRENCY)  # more than could be in progress if they were not acknowledged
        await eventually(lambda: len(fast.done) == 5 * CONCURRENCY, expecting="the fast ones to be done")
        release.set()
    await assert_nothing_is_left(settings, publisher)


async def test_a_transient_failure_is_tried_again_after_each_delay(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handle = failing(TransientError("not yet"), attempts=4)
    await place(publisher)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: handle.done, expecting="the fifth attempt")
    assert handle.attempts == [1, 2, 3, 4, 5]  # two of them on each delivery
    await assert_nothing_is_left(settings, publisher)


async def test_a_retry_comes_back_from_a_queue_that_was_not_told_its_delay(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    """As a quorum queue of RabbitMQ 3.10 is for a moment after it was declared."""
    handle = failing(TransientError("not yet"), attempts=2)
    async with Management(settings) as management:
        path = ("queues", management.vhost, topology.retry_queue(QUEUE, DELAYS[0]))
        arguments = (await management.find(*path))["arguments"]
        del arguments["x-message-ttl"]
        await management.delete(*path)
        await management.put(*path, body={"durable": True, "arguments": arguments})
        try:
            async with consuming(settings, publisher, handle):
                await place(publisher)
                await eventually(lambda: handle.done, expecting="the third attempt")
        finally:
            await management.delete(*path)
            await provision.apply(settings)
    await assert_nothing_is_left(settings, publisher)


async def test_an_effect_of_unknown_outcome_is_tried_once_in_each_attempt(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handle = failing(OutcomeUnknown("no answer after the final dot"), attempts=2)
    await place(publisher)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: handle.done, expecting="the third attempt")
    assert handle.attempts == [1, 2, 3]
    await assert_nothing_is_left(settings, publisher)


async def test_a_failure_that_took_long_is_not_tried_twice_in_one_attempt(
    settings: BrokerSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "SECOND_TRY_SECONDS", 0.0)
    handle = failing(TransientError("after minutes"))
    await dead_letter(settings, publisher, handle)
    assert handle.attempts == list(range(1, DELIVERIES + 1))


async def test_after_the_last_attempt_a_message_is_parked_with_its_history(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handle = Recorder(lambda event, attempt: TransientError(f"failure number {attempt}"))
    parked = await dead_letter(settings, publisher, handle)

    assert parked.message_id == handle.event.id
    assert parked.body == encode(handle.event)
    assert parked.headers["dead-letter-reason"] == "attempts-exhausted"
    assert parked.headers["dead-letter-error"] == f"TransientError: failure number {ATTEMPTS}"
    assert parked.headers["dead-letter-attempts"] == ATTEMPTS
    assert parked.headers["first-seen"] < parked.headers["dead-letter-at"]
    assert not [name for name in parked.headers if name.startswith("x-")]


async def test_what_can_never_work_is_parked_at_once(settings: BrokerSettings, publisher: Publisher) -> None:
    handle = failing(PermanentError("no-such-thing", "it is not there"))
    parked = await dead_letter(settings, publisher, handle)
    assert handle.attempts == [1]
    assert parked.headers["dead-letter-reason"] == "no-such-thing"


async def test_work_that_turns_out_to_be_done_when_it_is_given_up_is_no_dead_letter(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    given_up: list[str] = []

    async def give_up(event: OrderPlaced, attempts: int, error: str) -> bool:
        given_up.append(event.id)
        return False

    async with consuming(settings, publisher, failing(PermanentError("refused", "never")), give_up):
        placed = await place(publisher)
        await eventually(lambda: given_up, expecting="it to be given up")
    assert given_up == placed
    await assert_nothing_is_left(settings, publisher)


async def test_a_handler_with_a_bug_is_tried_again_and_then_parked_and_the_others_go_on(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    (bad,) = await place(publisher)
    handle = Recorder(lambda event, attempt: ZeroDivisionError("a bug") if event.id == bad else None)
    async with consuming(settings, publisher, handle), arrivals(settings, topology.dead_queue(QUEUE)) as dead:
        await place(publisher, 20)
        await eventually(lambda: dead and len(handle.done) == 20, expecting="one dead letter and twenty successes")
    assert dead[0].headers["dead-letter-error"] == "ZeroDivisionError: a bug"


async def test_a_message_spends_no_attempt_while_the_service_itself_is_not_ready(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handle = Recorder(lambda event, attempt: NotReady("the database is away") if len(handle.attempts) <= 5 else None)
    await place(publisher)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: handle.done, 20, expecting="the sixth call")
    assert handle.attempts == [1] * 6
    await assert_nothing_is_left(settings, publisher)


async def test_a_delivery_held_for_long_goes_back_without_having_spent_an_attempt(
    settings: BrokerSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "HOLD_SECONDS", 0.1)
    is_back = asyncio.Event()
    handle = Recorder(lambda event, attempt: None if is_back.is_set() else NotReady("the database is away"))

    before = retries()
    async with consuming(settings, publisher, handle):
        await place(publisher)
        await eventually(
            lambda: retries() - before >= 2 * ATTEMPTS, 20, "it to go back more often than it has attempts"
        )
        is_back.set()
        await eventually(lambda: handle.done, expecting="it to be handled")
    assert set(handle.attempts) == {1}
    await assert_nothing_is_left(settings, publisher)


def retries() -> float:
    """How often this process has put something into a retry queue of `QUEUE`."""
    labels = {"queue": QUEUE, "outcome": "retry"}
    return REGISTRY.get_sample_value("order_rail_deliveries_settled_total", labels) or 0.0


async def test_deliveries_of_a_lost_connection_come_again_and_their_old_outcomes_are_dropped(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    release = asyncio.Event()
    handle = Recorder(release=release)
    placed = await place(publisher, CONCURRENCY)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(handle.started) == CONCURRENCY, expecting="all of them to be in progress")
        await close_connection(settings, consumer._name)
        await eventually(lambda: sorted(handle.started) == sorted(placed * 2), 20, "each to be delivered again")
        release.set()
        await eventually(lambda: consumer.problem() is None, expecting="the consumer to be ready")
    await assert_nothing_is_left(settings, publisher)


async def test_an_outcome_of_a_lost_channel_settles_nothing_on_the_next_one(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    """Delivery tags begin at 1 again: the old channel's would stand for another delivery, still in progress."""
    started: list[asyncio.Event] = []
    ended: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        started.append(release := asyncio.Event())
        number = len(started)
        await release.wait()
        ended.append(number)
        return DONE

    await place(publisher)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(started) == 1, expecting="the first delivery")
        await close_connection(settings, consumer._name)
        await eventually(lambda: len(started) == 2, 20, "the second delivery, while the first is still in progress")
        started[0].set()
        await eventually(lambda: ended == [1], expecting="the outcome of the first delivery")
        await close_connection(settings, consumer._name)
        await eventually(lambda: len(started) == 3, 20, "a third delivery, since the second was never settled")
        started[1].set()
        started[2].set()
    await assert_nothing_is_left(settings, publisher)


async def test_a_queue_deleted_under_its_consumer_is_consumed_again_once_it_is_back(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handle = Recorder()
    async with consuming(settings, publisher, handle) as consumer:
        await place(publisher)
        await eventually(lambda: len(handle.done) == 1, expecting="the first order")
        async with Management(settings) as management:
            await management.delete("queues", management.vhost, QUEUE)
        await eventually(lambda: QUEUE in (consumer.problem() or ""), expecting="the missing queue to be named")
        await provision.apply(settings)
        await eventually(lambda: consumer.problem() is None, expecting="the consumer to be ready")
        await place(publisher)
        await eventually(lambda: len(handle.done) == 2, expecting="the second order")


async def test_stopping_lets_go_of_what_is_held_and_the_broker_delivers_it_again(
    settings: BrokerSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "FIRST_PAUSE_SECONDS", 1000.0)
    handle = Recorder(lambda event, attempt: NotReady("the mail server is away"))
    placed = await place(publisher, CONCURRENCY)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(handle.started) == CONCURRENCY, expecting="all of them to be held")
        await asyncio.wait_for(consumer.stop(), 5)
    again = Recorder()
    async with consuming(settings, publisher, again):
        await eventually(lambda: again.done == set(placed), expecting="each to be handled")
    assert set(again.attempts) == {1}
    await assert_nothing_is_left(settings, publisher)


async def test_stopping_finishes_what_is_in_progress_and_takes_no_more(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    release = asyncio.Event()
    handle = Recorder(release=release)
    await place(publisher, 3 * CONCURRENCY)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(handle.started) == CONCURRENCY, expecting="as many as may be in progress")
        asyncio.get_running_loop().call_later(0.2, release.set)
        await consumer.stop()
    assert len(handle.done) == len(handle.started)
    async with arrivals(settings, QUEUE) as remaining:
        await eventually(lambda: len(remaining) == 3 * CONCURRENCY - len(handle.done), expecting="the others alone")

"""The consumer against a real broker: what it settles, how, and what survives when the ground moves under it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from shared import topology
from shared.events import OrderPlaced, encode
from shared.ids import new_id
from shared.management import Management
from shared.messaging import processor
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


@pytest.fixture
def settings(module_broker_settings: BrokerSettings) -> BrokerSettings:
    return module_broker_settings


@pytest_asyncio.fixture
async def publisher(settings: BrokerSettings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings.rabbitmq_url, "test", exchanges=["orders"])
    await publisher.start()
    await publisher.connected()
    yield publisher
    await publisher.stop()


Handle = Callable[[OrderPlaced, int], Awaitable[Ack]]


@asynccontextmanager
async def consuming(
    settings: BrokerSettings, publisher: Publisher, handle: Handle, give_up: GiveUp | None = None
) -> AsyncIterator[Consumer]:
    subscription = Subscription(QUEUE, {OrderPlaced: handle}, CONCURRENCY, give_up)
    # A name of its own: the broker goes on listing the connections of the tests before for a while.
    name = f"test {new_id()}"
    consumer = Consumer(settings.rabbitmq_url, name, [subscription], publisher, settings.retry_delays_of)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def place(publisher: Publisher, count: int = 1) -> list[OrderPlaced]:
    events = [examples.order_placed() for _ in range(count)]
    messages = [Message("orders", event.type, encode(event), message_id=event.id, type=event.type) for event in events]
    assert await publisher.publish_all(messages) == [None] * count
    return events


async def assert_nothing_is_left(settings: BrokerSettings, publisher: Publisher) -> None:
    """Neither in the queue nor among its dead letters: a marker published last is the first to arrive."""
    for queue in (QUEUE, topology.dead_queue(QUEUE)):
        async with arrivals(settings, queue) as rest:
            await publisher.publish(Message("", queue, b"marker"))
            await eventually(rest.__len__, expecting="the marker")
        assert [message.body for message in rest] == [b"marker"]


async def test_what_is_handled_is_acknowledged(settings: BrokerSettings, publisher: Publisher) -> None:
    handled: Counter[str] = Counter()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        handled[event.id] += 1
        return DONE

    events = await place(publisher, 500)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: len(handled) == 500, expecting="500 events to be handled")
    assert handled == Counter(event.id for event in events)
    await assert_nothing_is_left(settings, publisher)


async def test_no_more_deliveries_are_at_hand_than_the_concurrency_allows(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    at_hand, most, total = 0, 0, 0

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        nonlocal at_hand, most, total
        at_hand, total = at_hand + 1, total + 1
        most = max(most, at_hand)
        await asyncio.sleep(0.01)
        at_hand -= 1
        return DONE

    await place(publisher, 100)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: total == 100, expecting="100 deliveries")
    assert most == CONCURRENCY


async def test_a_slow_delivery_does_not_hold_up_the_acknowledgement_of_the_others(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    slow, release, fast = (await place(publisher))[0].id, asyncio.Event(), set()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        if event.id == slow:
            await release.wait()
        else:
            fast.add(event.id)
        return DONE

    async with consuming(settings, publisher, handle):
        await place(publisher, 5 * CONCURRENCY)  # more than could be at hand if they were not acknowledged
        await eventually(lambda: len(fast) == 5 * CONCURRENCY, expecting="the fast ones to be done")
        release.set()
    await assert_nothing_is_left(settings, publisher)


async def test_what_may_have_happened_is_tried_once_in_each_attempt(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    attempts: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        attempts.append(attempt)
        if attempt < 3:
            raise OutcomeUnknown("no answer after the final dot")
        return DONE

    async with consuming(settings, publisher, handle):
        await place(publisher)
        await eventually(lambda: 3 in attempts, expecting="the third attempt")
    assert attempts == [1, 2, 3]
    await assert_nothing_is_left(settings, publisher)


async def test_a_delivery_held_for_long_goes_back_without_having_spent_an_attempt(
    settings: BrokerSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "HOLD_SECONDS", 0.1)
    more_than_there_are = 2 * (len(settings.retry_delays_seconds) + 1)
    handled: list[tuple[int, bool]] = []
    is_back = asyncio.Event()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        handled.append((attempt, is_back.is_set()))
        if not is_back.is_set():
            raise NotReady("the database is away")
        return DONE

    before = retries()
    async with consuming(settings, publisher, handle):
        await place(publisher)
        await eventually(lambda: retries() - before >= more_than_there_are, 20, "it to go back several times")
        is_back.set()
        await eventually(lambda: handled[-1][1], expecting="it to be handled")
    assert {attempt for attempt, _ in handled} == {1}
    await assert_nothing_is_left(settings, publisher)


def retries() -> float:
    """How often this process has put something into a retry queue of `QUEUE`."""
    labels = {"queue": QUEUE, "outcome": "retry"}
    return REGISTRY.get_sample_value("order_rail_deliveries_settled_total", labels) or 0.0


async def test_what_turns_out_to_be_done_when_it_is_given_up_is_no_dead_letter(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    given_up: list[str] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        raise PermanentError("refused", "never")

    async def give_up(event: OrderPlaced, attempts: int, error: str) -> bool:
        given_up.append(event.id)
        return False

    async with consuming(settings, publisher, handle, give_up):
        (placed,) = await place(publisher)
        await eventually(lambda: given_up, expecting="it to be given up")
    assert given_up == [placed.id]
    await assert_nothing_is_left(settings, publisher)


async def test_a_transient_failure_is_tried_again_after_each_delay(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    attempts: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        attempts.append(attempt)
        if attempt <= 2:
            raise TransientError("not yet")
        return DONE

    await place(publisher)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: 3 in attempts, expecting="the third attempt")
    assert sorted(set(attempts)) == [1, 2, 3]
    await assert_nothing_is_left(settings, publisher)


async def test_after_the_last_attempt_a_message_is_parked_with_its_story(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        raise TransientError(f"failure number {attempt}")

    (event,) = await place(publisher)
    async with consuming(settings, publisher, handle), arrivals(settings, topology.dead_queue(QUEUE)) as dead:
        await eventually(lambda: dead, expecting="a dead letter")
    (letter,) = dead
    assert letter.message_id == event.id
    assert letter.body == encode(event)
    assert letter.headers["dead-letter-reason"] == "attempts-exhausted"
    assert letter.headers["dead-letter-error"] == "TransientError: failure number 3"
    assert letter.headers["dead-letter-attempts"] == len(settings.retry_delays_seconds) + 1
    assert letter.headers["first-seen"] < letter.headers["dead-letter-at"]
    assert not [name for name in letter.headers if name.startswith("x-")]


async def test_a_failure_that_took_long_is_not_tried_twice_in_one_attempt(
    settings: BrokerSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "SECOND_TRY_SECONDS", 0.0)
    attempts: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        attempts.append(attempt)
        raise TransientError("after minutes")

    await place(publisher)
    async with consuming(settings, publisher, handle), arrivals(settings, topology.dead_queue(QUEUE)) as dead:
        await eventually(lambda: dead, expecting="a dead letter")
    assert attempts == list(range(1, len(settings.retry_delays_seconds) + 2))


async def test_what_can_never_work_is_parked_at_once(settings: BrokerSettings, publisher: Publisher) -> None:
    attempts: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        attempts.append(attempt)
        raise PermanentError("no-such-thing", "it is not there")

    await place(publisher)
    async with consuming(settings, publisher, handle), arrivals(settings, topology.dead_queue(QUEUE)) as dead:
        await eventually(lambda: dead, expecting="a dead letter")
    assert attempts == [1]
    assert dead[0].headers["dead-letter-reason"] == "no-such-thing"


async def test_a_handler_with_a_bug_is_tried_again_and_then_parked_and_the_others_go_on(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    bad, good = (await place(publisher))[0].id, set()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        if event.id == bad:
            raise ZeroDivisionError("a bug")
        good.add(event.id)
        return DONE

    async with consuming(settings, publisher, handle), arrivals(settings, topology.dead_queue(QUEUE)) as dead:
        await place(publisher, 20)
        await eventually(lambda: dead and len(good) == 20, expecting="one dead letter and twenty successes")
    assert dead[0].headers["dead-letter-error"] == "ZeroDivisionError: a bug"


async def test_a_message_pays_no_attempt_while_the_service_itself_is_not_ready(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    calls: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        calls.append(attempt)
        if len(calls) <= 5:
            raise NotReady("the database is away")
        return DONE

    await place(publisher)
    async with consuming(settings, publisher, handle):
        await eventually(lambda: len(calls) == 6, 20, expecting="the sixth call")
    assert calls == [1] * 6
    await assert_nothing_is_left(settings, publisher)


async def test_deliveries_of_a_lost_connection_come_again_and_their_old_outcomes_are_dropped(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handled: Counter[str] = Counter()
    release = asyncio.Event()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        handled[event.id] += 1
        await release.wait()
        return DONE

    events = await place(publisher, CONCURRENCY)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(handled) == CONCURRENCY, expecting="all of them to be at hand")
        await close_connection(settings, consumer._name)
        await eventually(lambda: all(handled[event.id] == 2 for event in events), 20, "each to be delivered again")
        release.set()
        await eventually(lambda: consumer.problem() is None, expecting="the consumer to be well")
    await assert_nothing_is_left(settings, publisher)


async def test_an_outcome_of_a_lost_channel_settles_nothing_on_the_next_one(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    """Delivery tags begin at 1 again: the old channel's would stand for another delivery, still under way."""
    begun: list[asyncio.Event] = []
    ended: list[int] = []

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        begun.append(release := asyncio.Event())
        number = len(begun)
        await release.wait()
        ended.append(number)
        return DONE

    await place(publisher)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(begun) == 1, expecting="the first delivery")
        await close_connection(settings, consumer._name)
        await eventually(lambda: len(begun) == 2, 20, "the second delivery, while the first is still under way")
        begun[0].set()
        await eventually(lambda: ended == [1], expecting="the outcome of the first delivery")
        await close_connection(settings, consumer._name)
        await eventually(lambda: len(begun) == 3, 20, "a third delivery, since the second was never settled")
        begun[1].set()
        begun[2].set()
    await assert_nothing_is_left(settings, publisher)


async def test_a_queue_deleted_under_its_consumer_is_consumed_again_once_it_is_back(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    handled: set[str] = set()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        handled.add(event.id)
        return DONE

    async with consuming(settings, publisher, handle) as consumer:
        await place(publisher)
        await eventually(lambda: len(handled) == 1, expecting="the first order")
        async with Management(settings) as management:
            await management.delete("queues", management.vhost, QUEUE)
        await eventually(lambda: QUEUE in (consumer.problem() or ""), expecting="the missing queue to be named")
        await provision.apply(settings)
        await eventually(lambda: consumer.problem() is None, expecting="the consumer to be well")
        await place(publisher)
        await eventually(lambda: len(handled) == 2, expecting="the second order")


async def test_stopping_finishes_what_is_at_hand_and_takes_no_more(
    settings: BrokerSettings, publisher: Publisher
) -> None:
    begun: set[str] = set()
    finished: set[str] = set()
    release = asyncio.Event()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        begun.add(event.id)
        await release.wait()
        finished.add(event.id)
        return DONE

    await place(publisher, 3 * CONCURRENCY)
    async with consuming(settings, publisher, handle) as consumer:
        await eventually(lambda: len(begun) == CONCURRENCY, expecting="as many as may be at hand")
        stopping = asyncio.create_task(consumer.stop())
        asyncio.get_running_loop().call_later(0.2, release.set)
        await stopping
    assert len(finished) == len(begun)
    async with arrivals(settings, QUEUE) as rest:
        await eventually(lambda: len(rest) == 3 * CONCURRENCY - len(finished), expecting="the rest, and only the rest")

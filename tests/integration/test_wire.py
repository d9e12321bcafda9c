"""The network to the broker fails: publishing and consuming recover by themselves, and no message is lost."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from control_room.experiments.chaos.proxy import Proxy, proxy_to
from shared.events import OrderPlaced, encode
from shared.messaging.connection import connected
from shared.messaging.consumer import Consumer
from shared.messaging.message import Message
from shared.messaging.processor import Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import DONE, Ack
from shared.settings import BrokerSettings
from tests import examples
from tests.amqp import arrivals, queue_of
from tests.support import eventually, ready

QUEUE = "payment_service.charge"
MESSAGES = 200


@pytest_asyncio.fixture
async def wire(module_broker_settings: BrokerSettings) -> AsyncIterator[tuple[Proxy, str]]:
    async with proxy_to(module_broker_settings.rabbitmq_url) as (proxy, url):
        yield proxy, f"{url}?heartbeat=2"


def some_messages(count: int) -> list[Message]:
    return [Message("orders", "wire.test", b"x" * 300, message_id=str(uuid4())) for _ in range(count)]


def ids(messages: list[Message]) -> set[str | None]:
    return {each.message_id for each in messages}


async def publish_until_all_are_confirmed(publisher: Publisher, messages: list[Message]) -> int:
    """As the relay does it: what was not confirmed is published again. Returns how many publishes that took."""
    waiting, publishes = messages, 0
    async with asyncio.timeout(40):
        while waiting:
            await publisher.connected()
            outcomes = await publisher.publish_all(waiting)
            publishes += len(waiting)
            waiting = [each for each, error in zip(waiting, outcomes, strict=True) if error is not None]
    return publishes


@pytest.mark.parametrize(
    ("fault", "broker_had_them"),
    [("hold_answers", True), ("blackhole", False)],
    ids=["whose confirms were lost", "that never arrived"],
)
async def test_messages_are_published_again(
    wire: tuple[Proxy, str], settings: BrokerSettings, fault: str, broker_had_them: bool
) -> None:
    """A lost confirm makes a duplicate, never a loss."""
    proxy, url = wire
    messages = some_messages(MESSAGES)
    async with (
        queue_of(settings, "orders", "wire.test") as queue,
        arrivals(settings, queue) as arrived,
        ready(Publisher(url, "test", exchanges=["orders"])) as publisher,
    ):
        getattr(proxy, fault)()
        publishing = asyncio.create_task(publish_until_all_are_confirmed(publisher, messages))
        await eventually(lambda: proxy.lost_bytes > 0, expecting="bytes to be lost")
        await eventually(lambda: not publisher.is_connected, 20, "the fault to be noticed")
        proxy.heal()
        assert await publishing > MESSAGES
        await eventually(lambda: ids(arrived) >= ids(messages), expecting="all of them to arrive")
    most = max(Counter(each.message_id for each in arrived).values())
    assert most > 1 if broker_had_them else most == 1


async def test_a_connection_reset_in_the_middle_of_a_frame_loses_nothing(
    wire: tuple[Proxy, str], settings: BrokerSettings
) -> None:
    proxy, url = wire
    messages = some_messages(MESSAGES)
    async with queue_of(settings, "orders", "wire.test") as queue:
        async with ready(Publisher(url, "test", exchanges=["orders"])) as publisher:
            proxy.reset_after_bytes = 20_123  # somewhere inside the body of one of them
            assert await publish_until_all_are_confirmed(publisher, messages) > MESSAGES
        async with arrivals(settings, queue) as arrived:
            await eventually(lambda: ids(arrived) == ids(messages), expecting="all of them to arrive")
    assert proxy.resets == 1


async def test_on_a_slow_link_publishing_is_slow_and_no_message_is_repeated(
    wire: tuple[Proxy, str], settings: BrokerSettings
) -> None:
    proxy, url = wire
    async with queue_of(settings, "orders", "wire.test") as queue:
        async with ready(Publisher(url, "test", exchanges=["orders"])) as publisher:
            proxy.chunk_delay_seconds = 0.02
            started = time.monotonic()
            assert await publisher.publish_all(some_messages(50)) == [None] * 50
            assert time.monotonic() - started > 50 * 300 / 512 * 0.02
            proxy.heal()
        async with arrivals(settings, queue) as arrived:
            await eventually(lambda: len(arrived) == 50, expecting="each message once")


async def test_a_connection_on_which_nothing_but_heartbeats_comes_stays_open(settings: BrokerSettings) -> None:
    async with connected(f"{settings.rabbitmq_url}?heartbeat=1", "test") as connection:
        await asyncio.wait([connection.closed], timeout=7)  # pika closes an idle one 5 s after its heartbeat was due
        assert not connection.closed.done()


async def test_a_consumer_cut_off_from_the_broker_goes_on_when_the_network_is_back(
    wire: tuple[Proxy, str], publisher: Publisher
) -> None:
    proxy, url = wire
    handled: Counter[str] = Counter()
    go_on = asyncio.Event()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        handled[event.id] += 1
        await go_on.wait()
        return DONE

    events = [examples.order_placed() for _ in range(30)]
    await publisher.publish_all([Message("orders", each.type, encode(each), message_id=each.id) for each in events])
    subscription = Subscription(QUEUE, {OrderPlaced: handle}, 10)
    async with ready(Consumer(url, "test", [subscription], publisher, lambda _queue: (0.2,))) as consumer:
        await eventually(lambda: len(handled) == 10, expecting="as many as may be in progress")
        proxy.blackhole()
        go_on.set()  # what is acknowledged now is lost
        await eventually(lambda: consumer.problem() is not None, 20, "the consumer to notice")
        proxy.heal()
        await eventually(lambda: len(handled) == 30, 20, "all of them to be handled")
        await eventually(lambda: sorted(handled.values())[-10:] == [2] * 10, 20, "the ten in progress to come again")

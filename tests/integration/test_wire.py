"""The wire to the broker goes wrong: publishing and consuming recover by themselves, and no message is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio

from control_room.experiments.chaos.proxy import Proxy, proxy_to
from shared.events import OrderPlaced, encode
from shared.messaging.connection import Connection
from shared.messaging.consumer import Consumer
from shared.messaging.message import Message
from shared.messaging.processor import Subscription
from shared.messaging.publisher import Publisher
from shared.messaging.retry import DONE, Ack
from shared.settings import BrokerSettings
from tests import examples
from tests.amqp import arrivals, queue_of
from tests.support import eventually

QUEUE = "payment_service.charge"
MESSAGES = 200


@pytest_asyncio.fixture
async def wire(module_broker_settings: BrokerSettings) -> AsyncIterator[tuple[Proxy, str]]:
    async with proxy_to(module_broker_settings.rabbitmq_url) as (proxy, url):
        yield proxy, f"{url}?heartbeat=2"


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


async def assert_all_arrive_though(
    fault: str, wire: tuple[Proxy, str], settings: BrokerSettings
) -> tuple[int, Counter[str | None]]:
    """Publish while the fault comes and goes; returns the number of publishes, and what arrived how often."""
    proxy, url = wire
    messages = [Message("orders", "wire.test", b"x" * 300, message_id=str(uuid4())) for _ in range(MESSAGES)]
    async with queue_of(settings, "orders", "wire.test") as queue, arrivals(settings, queue) as arrived:
        publisher = Publisher(url, "test", exchanges=["orders"])
        await publisher.start()
        await publisher.connected()
        getattr(proxy, fault)()
        publishing = asyncio.create_task(publish_until_all_are_confirmed(publisher, messages))
        await eventually(lambda: proxy.lost_bytes > 0, expecting="bytes to be lost")
        await eventually(lambda: not publisher.is_connected, 20, "the fault to be noticed")
        proxy.heal()
        publishes = await publishing
        await publisher.stop()
        await eventually(lambda: {each.message_id for each in arrived} >= {each.message_id for each in messages})
    return publishes, Counter(each.message_id for each in arrived)


async def test_messages_whose_confirms_were_lost_are_published_again(
    wire: tuple[Proxy, str], module_broker_settings: BrokerSettings
) -> None:
    publishes, arrived = await assert_all_arrive_though("hold_answers", wire, module_broker_settings)
    assert publishes > MESSAGES
    assert max(arrived.values()) > 1  # the broker had them: a lost confirm makes a duplicate, never a loss


async def test_messages_that_went_into_a_black_hole_are_published_again(
    wire: tuple[Proxy, str], module_broker_settings: BrokerSettings
) -> None:
    publishes, arrived = await assert_all_arrive_though("blackhole", wire, module_broker_settings)
    assert publishes > MESSAGES
    assert max(arrived.values()) == 1  # the broker never had them


async def test_a_connection_reset_in_the_middle_of_a_frame_loses_nothing(
    wire: tuple[Proxy, str], module_broker_settings: BrokerSettings
) -> None:
    proxy, url = wire
    messages = [Message("orders", "wire.test", b"x" * 300, message_id=str(uuid4())) for _ in range(MESSAGES)]
    async with queue_of(module_broker_settings, "orders", "wire.test") as queue:
        publisher = Publisher(url, "test", exchanges=["orders"])
        await publisher.start()
        await publisher.connected()
        proxy.reset_after_bytes = 20_123  # somewhere inside the body of one of them
        publishes = await publish_until_all_are_confirmed(publisher, messages)
        await publisher.stop()
        async with arrivals(module_broker_settings, queue) as arrived:
            await eventually(lambda: {each.message_id for each in arrived} == {each.message_id for each in messages})
    assert proxy.resets == 1
    assert publishes > MESSAGES


async def test_a_slow_link_is_slow_and_no_more(wire: tuple[Proxy, str], module_broker_settings: BrokerSettings) -> None:
    proxy, url = wire
    messages = [Message("orders", "wire.test", b"x" * 300, message_id=str(uuid4())) for _ in range(50)]
    async with queue_of(module_broker_settings, "orders", "wire.test") as queue:
        publisher = Publisher(url, "test", exchanges=["orders"])
        await publisher.start()
        await publisher.connected()
        proxy.chunk_delay_seconds = 0.02
        started = asyncio.get_running_loop().time()
        assert await publisher.publish_all(messages) == [None] * 50
        assert asyncio.get_running_loop().time() - started > 50 * 300 / 512 * 0.02
        proxy.heal()
        await publisher.stop()
        async with arrivals(module_broker_settings, queue) as arrived:
            await eventually(lambda: len(arrived) == 50, expecting="each message once")


async def test_a_connection_on_which_nothing_but_heartbeats_comes_stays_open(
    module_broker_settings: BrokerSettings,
) -> None:
    connection = await Connection.open(f"{module_broker_settings.rabbitmq_url}?heartbeat=1", "test")
    await asyncio.wait([connection.closed], timeout=7)  # pika closes an idle one 5 s after its heartbeat was due
    assert not connection.closed.done()
    await connection.close()


async def test_a_consumer_cut_off_from_the_broker_goes_on_when_the_wire_is_mended(
    wire: tuple[Proxy, str], module_broker_settings: BrokerSettings
) -> None:
    proxy, url = wire
    handled: Counter[str] = Counter()
    go_on = asyncio.Event()

    async def handle(event: OrderPlaced, attempt: int) -> Ack:
        handled[event.id] += 1
        await go_on.wait()
        return DONE

    publisher = Publisher(module_broker_settings.rabbitmq_url, "test", exchanges=["orders"])
    consumer = Consumer(url, "test", [Subscription(QUEUE, {OrderPlaced: handle}, 10)], publisher, lambda _queue: (0.2,))
    await publisher.start()
    await publisher.connected()
    events = [examples.order_placed() for _ in range(30)]
    await publisher.publish_all([Message("orders", each.type, encode(each), message_id=each.id) for each in events])
    await consumer.start()
    await eventually(lambda: len(handled) == 10, expecting="as many as may be at hand")
    proxy.blackhole()
    go_on.set()  # what is acknowledged now goes into the hole
    await eventually(lambda: consumer.problem() is not None, 20, "the consumer to notice")
    proxy.heal()
    await eventually(lambda: len(handled) == 30, 20, "all of them to be handled")
    await eventually(lambda: sorted(handled.values())[-10:] == [2] * 10, 20, "the ten at hand to come again")
    await consumer.stop()
    await publisher.stop()

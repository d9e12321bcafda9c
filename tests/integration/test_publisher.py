"""The publisher against a real broker: what is confirmed, what comes back, and what nobody can know."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from control_room.launcher.broker import PrivateBroker
from shared.ids import new_id
from shared.management import Management
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.message import Message
from shared.messaging.publisher import REFUSALS_UNTIL_NEW_CHANNEL, OutcomeUnknown, Publisher, Refused, Unroutable
from shared.settings import BrokerSettings
from tests.amqp import arrivals, close_connection, queue_of
from tests.support import eventually


@pytest_asyncio.fixture
async def publisher(module_broker_settings: BrokerSettings) -> AsyncIterator[Publisher]:
    # A name of its own: the broker goes on listing the connections of the tests before for a while.
    publisher = Publisher(module_broker_settings.rabbitmq_url, f"test {new_id()}", exchanges=["orders"])
    await publisher.start()
    await publisher.connected()
    yield publisher
    await publisher.stop()


async def assert_holds(settings: BrokerSettings, queue: str, count: int) -> None:
    async with arrivals(settings, queue) as messages:
        await eventually(lambda: len(messages) >= count, expecting=f"{count} messages")
    assert len(messages) == count


def message(routing_key: str, *, exchange: str = "orders") -> Message:
    return Message(exchange, routing_key, b"{}", message_id=str(uuid4()), type=routing_key)


async def test_a_message_is_published_once_the_broker_has_confirmed_it(
    publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with queue_of(module_broker_settings, "orders", "greeting") as queue:
        await publisher.publish(message("greeting"))
        await assert_holds(module_broker_settings, queue, 1)


async def test_a_message_that_no_queue_takes_comes_back(publisher: Publisher) -> None:
    with pytest.raises(Unroutable, match="orders"):
        await publisher.publish(message("nobody.listens"))


async def test_in_one_batch_each_message_gets_its_own_result(
    publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with queue_of(module_broker_settings, "orders", "greeting"):
        keys = ["greeting" if number % 3 else "nobody.listens" for number in range(300)]
        results = await publisher.publish_all([message(key) for key in keys])
    assert [isinstance(result, Unroutable) for result in results] == [key == "nobody.listens" for key in keys]


async def test_twins_with_the_same_id_are_told_apart(
    publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    """A return carries no sequence number: it belongs to the first message of that id that is still unmarked."""
    twin = message("nobody.listens")
    assert [type(result) for result in await publisher.publish_all([twin, twin])] == [Unroutable, Unroutable]


async def test_a_full_queue_refuses(publisher: Publisher, module_broker_settings: BrokerSettings) -> None:
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with queue_of(module_broker_settings, "orders", "narrow", arguments=limits):
        with pytest.raises(Refused):  # a quorum queue finds out that it is full a few messages late
            for _ in range(1000):
                await publisher.publish(message("narrow"))


async def test_a_channel_on_which_a_queue_goes_on_refusing_is_given_up_though_other_queues_take_theirs(
    publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    """RabbitMQ 3.10 may refuse on the old channel when the queue has room again."""
    limits = {"x-max-length": 1, "x-overflow": "reject-publish"}
    async with (
        queue_of(module_broker_settings, "orders", "narrow", arguments=limits),
        queue_of(module_broker_settings, "orders", "wide") as wide,
    ):
        channel, refusals = publisher._channel, 0
        while refusals < REFUSALS_UNTIL_NEW_CHANNEL:
            assert publisher._channel is channel
            (narrow,) = await publisher.publish_all([message("narrow")])
            refusals += isinstance(narrow, Refused)
            if refusals < REFUSALS_UNTIL_NEW_CHANNEL:
                await publisher.publish(message(wide, exchange=""))
        assert publisher._channel is not channel
        await asyncio.wait_for(publisher.connected(), 15)
        await publisher.publish(message(wide, exchange=""))


async def test_more_messages_than_may_be_in_flight_all_arrive(
    publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with queue_of(module_broker_settings, "orders", "many") as queue:
        results = await publisher.publish_all([message("many") for _ in range(2500)])
        assert results == [None] * 2500
        await assert_holds(module_broker_settings, queue, 2500)


async def test_it_connects_again_after_its_connection_is_closed(
    publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with queue_of(module_broker_settings, "orders", "greeting") as queue:
        await close_connection(module_broker_settings, publisher._name)
        await eventually(lambda: not publisher.is_connected, expecting="the connection to be lost")
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(message("greeting"))
        await asyncio.wait_for(publisher.connected(), 15)
        await publisher.publish(message("greeting"))
        await assert_holds(module_broker_settings, queue, 1)


async def test_an_exchange_that_is_missing_is_waited_for(module_broker_settings: BrokerSettings) -> None:
    publisher = Publisher(module_broker_settings.rabbitmq_url, "early", exchanges=["not-yet"])
    await publisher.start()
    try:
        await eventually(lambda: "not-yet" in (publisher.problem() or ""), expecting="the problem to be named")
        async with Management(module_broker_settings) as management:
            exchange = {"type": "topic", "durable": True}
            await management.put("exchanges", management.vhost, "not-yet", body=exchange)
        await asyncio.wait_for(publisher.connected(), 10)
    finally:
        await publisher.stop()


async def test_a_message_whose_confirm_never_comes_has_an_unknown_outcome(breakable_broker: PrivateBroker) -> None:
    settings = BrokerSettings(
        rabbitmq_url=breakable_broker.amqp_url(), rabbitmq_management_url=breakable_broker.management_url
    )
    async with queue_of(settings, "amq.topic", "greeting"):
        publisher = Publisher(settings.rabbitmq_url, "test", exchanges=["amq.topic"])
        await publisher.start()
        await publisher.connected()
        breakable_broker.suspend()
        try:
            with pytest.raises(OutcomeUnknown):
                await publisher.publish(message("greeting", exchange="amq.topic"))
        finally:
            breakable_broker.resume()
        await asyncio.wait_for(publisher.connected(), 15)
        await publisher.publish(message("greeting", exchange="amq.topic"))
        await publisher.stop()

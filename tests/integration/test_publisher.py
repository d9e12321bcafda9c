"""The publisher against a real broker: what is confirmed, what is returned or refused, and what is unknown."""

from uuid import uuid4

import pytest

from control_room.launcher.broker import PrivateBroker
from shared.management import Management
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.message import Message
from shared.messaging.publisher import (
    REFUSALS_UNTIL_NEW_CHANNEL,
    Publisher,
    Refused,
    Unconfirmed,
    Unroutable,
)
from shared.settings import BrokerSettings
from tests.amqp import arrivals, close_connection, queue_of
from tests.support import eventually, ready

ONE_MESSAGE = {"x-max-length": 1, "x-overflow": "reject-publish"}


async def assert_holds(settings: BrokerSettings, queue: str, count: int) -> None:
    async with arrivals(settings, queue) as messages:
        await eventually(lambda: len(messages) >= count, expecting=f"{count} messages")
    assert len(messages) == count


def message(routing_key: str, *, exchange: str = "orders") -> Message:
    return Message(exchange, routing_key, b"{}", message_id=str(uuid4()), type=routing_key)


async def test_a_message_that_no_queue_takes_is_returned(publisher: Publisher) -> None:
    with pytest.raises(Unroutable, match="orders"):
        await publisher.publish(message("nobody.listens"))


async def test_in_one_batch_each_message_gets_its_own_result(publisher: Publisher, settings: BrokerSettings) -> None:
    keys = ["greeting" if number % 3 else "nobody.listens" for number in range(300)]
    async with queue_of(settings, "orders", "greeting") as queue:
        results = await publisher.publish_all([message(key) for key in keys])
        await assert_holds(settings, queue, 200)
    assert [isinstance(result, Unroutable) for result in results] == [key == "nobody.listens" for key in keys]


async def test_twins_with_the_same_id_are_told_apart(publisher: Publisher) -> None:
    """A return carries no sequence number: it belongs to the first message of that id that is still unmarked."""
    twin = message("nobody.listens")
    assert [type(result) for result in await publisher.publish_all([twin, twin])] == [Unroutable, Unroutable]


async def test_a_full_queue_refuses(publisher: Publisher, settings: BrokerSettings) -> None:
    async with queue_of(settings, "orders", "narrow", arguments=ONE_MESSAGE):
        with pytest.raises(Refused):  # a quorum queue finds out that it is full a few messages late
            for _ in range(1000):
                await publisher.publish(message("narrow"))


async def test_after_refusals_in_a_row_by_one_queue_there_is_a_new_channel_though_another_queue_takes_its_messages(
    publisher: Publisher, settings: BrokerSettings
) -> None:
    """RabbitMQ 3.10 may refuse on the old channel when the queue has room again."""
    async with (
        queue_of(settings, "orders", "narrow", arguments=ONE_MESSAGE),
        queue_of(settings, "orders", "wide") as wide,
    ):
        channel, refusals = publisher._channel, 0
        while refusals < REFUSALS_UNTIL_NEW_CHANNEL:
            assert publisher._channel is channel
            (narrow,) = await publisher.publish_all([message("narrow")])
            refusals += isinstance(narrow, Refused)
            if refusals < REFUSALS_UNTIL_NEW_CHANNEL:
                await publisher.publish(message(wide, exchange=""))
        assert publisher._channel is not channel
        await eventually(lambda: publisher.is_connected, 15, "another channel")
        await publisher.publish(message(wide, exchange=""))


async def test_more_messages_than_may_be_in_flight_all_arrive(publisher: Publisher, settings: BrokerSettings) -> None:
    async with queue_of(settings, "orders", "many") as queue:
        assert await publisher.publish_all([message("many") for _ in range(2500)]) == [None] * 2500
        await assert_holds(settings, queue, 2500)


async def test_it_connects_again_after_its_connection_is_closed(publisher: Publisher, settings: BrokerSettings) -> None:
    async with queue_of(settings, "orders", "greeting") as queue:
        await close_connection(settings, publisher._name)
        await eventually(lambda: not publisher.is_connected, expecting="the connection to be lost")
        with pytest.raises(BrokerUnavailable):
            await publisher.publish(message("greeting"))
        await eventually(lambda: publisher.is_connected, 15, "another connection")
        await publisher.publish(message("greeting"))
        await assert_holds(settings, queue, 1)


async def test_an_exchange_that_is_missing_is_waited_for(settings: BrokerSettings) -> None:
    publisher = Publisher(settings.rabbitmq_url, "early", exchanges=["not-yet"])
    await publisher.start()
    try:
        await eventually(lambda: "not-yet" in (publisher.problem() or ""), expecting="the problem to be named")
        async with Management(settings) as management:
            exchange = {"type": "topic", "durable": True}
            await management.put("exchanges", management.vhost, "not-yet", body=exchange)
        await eventually(lambda: publisher.is_connected, 10, "the exchange to be found")
    finally:
        await publisher.stop()


async def test_a_message_whose_confirm_never_comes_has_an_unknown_outcome(breakable_broker: PrivateBroker) -> None:
    settings = BrokerSettings(
        rabbitmq_url=breakable_broker.amqp_url(), rabbitmq_management_url=breakable_broker.management_url
    )
    async with (
        queue_of(settings, "amq.topic", "greeting"),
        ready(Publisher(settings.rabbitmq_url, "test", exchanges=["amq.topic"])) as publisher,
    ):
        breakable_broker.suspend()
        try:
            with pytest.raises(Unconfirmed):
                await publisher.publish(message("greeting", exchange="amq.topic"))
        finally:
            breakable_broker.resume()
        await eventually(lambda: publisher.is_connected, 15, "another channel")
        await publisher.publish(message("greeting", exchange="amq.topic"))

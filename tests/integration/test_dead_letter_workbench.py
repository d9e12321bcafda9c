"""Dead letters on a real broker and nothing else: looking changes nothing, and nothing is lost on the way back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control_room.operations.dead_letters.discard import NotDiscarded, discard
from control_room.operations.dead_letters.parked import WINDOW, connected, dead_letters, inspect
from control_room.operations.dead_letters.redrive import NoConsumer, RedriveStopped, redrive
from control_room.operations.dead_letters.selection import Selection, groups
from shared.events import encode
from shared.management import Management
from shared.messaging.connection import Connection
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from shared.settings import BrokerSettings
from shared.topology.definition import DELIVERY_LIMIT
from tests.amqp import arrivals
from tests.examples import order_placed
from tests.support import eventually

CHARGE, SMS = "payment_service.charge", "notification_service.sms"
EXHAUSTED = {"dead-letter-reason": "attempts-exhausted", "dead-letter-attempts": 4, "attempt": 4}
MANY = 2 * WINDOW + 50


@pytest.fixture
def settings(module_broker_settings: BrokerSettings) -> BrokerSettings:
    return module_broker_settings


@pytest_asyncio.fixture
async def connection(settings: BrokerSettings) -> AsyncIterator[Connection]:
    """Its queues are empty when a test begins."""
    async with Management(settings) as management:
        for queue in (CHARGE, f"{CHARGE}.dead", f"{SMS}.dead"):
            await management.delete("queues", management.vhost, queue, "contents")
    async with connected(settings.rabbitmq_url) as opened:
        yield opened


async def park(settings: BrokerSettings, queue: str, count: int, **headers: Any) -> list[str]:
    """That many dead letters; their ids."""
    events = [order_placed() for _ in range(count)]
    messages = [
        Message("", f"{queue}.dead", encode(event), message_id=event.id, headers={**EXHAUSTED, **headers})
        for event in events
    ]
    publisher = Publisher(settings.rabbitmq_url, "test")
    await publisher.start()
    await publisher.connected()
    assert await publisher.publish_all(messages[:500]) == [None] * len(messages[:500])
    for start in range(500, count, 500):
        assert not any(await publisher.publish_all(messages[start : start + 500]))
    await publisher.stop()
    return [event.id for event in events]


async def ids(connection: Connection, queue: str) -> list[str]:
    async with dead_letters(connection, queue) as letters:
        return [held.dead_letter.id async for held in letters]


async def test_looking_removes_and_reorders_nothing(settings: BrokerSettings, connection: Connection) -> None:
    """More than one consumer may hold, so that their order among each other counts."""
    parked = await park(settings, CHARGE, MANY)

    looks = [await ids(connection, CHARGE) for _ in range(3)]

    assert looks == [parked] * 3


@pytest.mark.parametrize("read", [0, 1, WINDOW + 1])
async def test_a_look_that_is_broken_off_puts_everything_back_in_its_place(
    settings: BrokerSettings, connection: Connection, read: int
) -> None:
    """What is on its way to a consumer as it ends must not get ahead of what it holds; so many times, since it may."""
    parked = await park(settings, CHARGE, WINDOW + 20 if read > 1 else 3)

    for _ in range(30):
        async with dead_letters(connection, CHARGE) as letters:
            for _ in range(read):
                await anext(letters)

    assert await ids(connection, CHARGE) == parked


async def test_only_what_is_taken_goes(settings: BrokerSettings, connection: Connection) -> None:
    parked = await park(settings, CHARGE, 20)

    async with dead_letters(connection, CHARGE) as letters:
        async for held in letters:
            if held.dead_letter.id in parked[5:8]:
                held.take()

    assert await ids(connection, CHARGE) == parked[:5] + parked[8:]


async def test_a_second_reader_waits_for_the_first_and_sees_them_all(
    settings: BrokerSettings, connection: Connection
) -> None:
    parked = await park(settings, CHARGE, 3)

    async with connected(settings.rabbitmq_url) as another:
        async with dead_letters(connection, CHARGE) as letters:
            await anext(letters)
            second = asyncio.create_task(ids(another, CHARGE))
            await eventually(lambda: inspect(another, f"{CHARGE}.dead"), expecting="the first reader to hold them")
        assert await second == parked


async def test_a_look_ends_though_more_letters_keep_coming(settings: BrokerSettings, connection: Connection) -> None:
    parked = await park(settings, CHARGE, 3)
    seen = []

    async with dead_letters(connection, CHARGE) as letters:
        async for held in letters:
            seen.append(held.dead_letter.id)
            await park(settings, CHARGE, 1)

    assert seen == parked


async def test_letters_are_grouped_by_queue_and_cause(settings: BrokerSettings, connection: Connection) -> None:
    await park(settings, CHARGE, 7)
    await park(settings, CHARGE, 2, **{"dead-letter-reason": "not-json"})
    await park(settings, SMS, 1)

    found = await groups(connection, Selection(), shown=3)

    assert [(each.queue, each.cause, each.count, len(each.first), each.most_attempts) for each in found] == [
        (CHARGE, "attempts-exhausted", 7, 3, 4),
        (CHARGE, "not-json", 2, 2, 4),
        (SMS, "attempts-exhausted", 1, 1, 4),
    ]


async def test_what_the_broker_parks_itself_is_listed_with_its_cause(
    settings: BrokerSettings, connection: Connection
) -> None:
    """A consumer that dies with the message in its hands, again and again."""
    event = order_placed()
    async with Management(settings) as management:
        properties = {"message_id": event.id, "delivery_mode": 2}
        body = {"routing_key": CHARGE, "payload": encode(event).decode(), "payload_encoding": "string"}
        path = ("exchanges", management.vhost, "amq.default", "publish")
        await management.post(*path, body={**body, "properties": properties})

    async def die_with_it() -> bool:
        channel = await connection.channel()
        arrived = asyncio.Event()
        await channel.consume(CHARGE, lambda _delivery: arrived.set())
        try:
            await asyncio.wait_for(arrived.wait(), 0.2)
        except TimeoutError:
            pass
        finally:
            await channel.close()
        return (await inspect(connection, f"{CHARGE}.dead")).messages == 1

    await eventually(die_with_it, 60, f"the broker to give up after {DELIVERY_LIMIT} returns")

    (group,) = await groups(connection, Selection(), shown=1)
    assert (group.queue, group.cause) == (CHARGE, "delivery-limit")
    assert group.first[0].id == event.id
    assert group.first[0].parked_at is not None


async def test_a_redrive_is_refused_while_nobody_consumes(settings: BrokerSettings, connection: Connection) -> None:
    parked = await park(settings, CHARGE, 3)

    with pytest.raises(NoConsumer, match=f"{CHARGE} has no consumer now: payment_service does not run"):
        await redrive(settings.rabbitmq_url, connection, Selection(), 1000)

    assert await ids(connection, CHARGE) == parked
    assert (await inspect(connection, CHARGE)).messages == 0


async def test_a_queue_of_which_nothing_is_selected_needs_no_consumer(
    settings: BrokerSettings, connection: Connection
) -> None:
    await park(settings, SMS, 1)
    parked = await park(settings, CHARGE, 3)

    async with arrivals(settings, CHARGE) as messages:
        assert await redrive(settings.rabbitmq_url, connection, Selection(queue=CHARGE), 1000) == 3
        await eventually(lambda: len(messages) == 3)

    assert [message.message_id for message in messages] == parked
    assert {message.headers["attempt"] for message in messages} == {1}
    assert {message.headers["redrive-count"] for message in messages} == {1}


async def test_a_forced_redrive_waits_in_the_queue(settings: BrokerSettings, connection: Connection) -> None:
    await park(settings, CHARGE, MANY)

    assert await redrive(settings.rabbitmq_url, connection, Selection(), 100_000, force=True) == MANY

    assert (await inspect(connection, CHARGE)).messages == MANY
    assert await ids(connection, CHARGE) == []


async def test_a_redrive_keeps_to_its_rate(settings: BrokerSettings, connection: Connection) -> None:
    await park(settings, CHARGE, 20)
    started = asyncio.get_running_loop().time()

    await redrive(settings.rabbitmq_url, connection, Selection(), 20, force=True)

    assert 0.8 <= asyncio.get_running_loop().time() - started < 5


async def test_a_redrive_to_a_queue_that_is_gone_stops_and_keeps_the_letters(
    settings: BrokerSettings, connection: Connection
) -> None:
    parked = await park(settings, CHARGE, 3)
    async with Management(settings) as management:
        queue = await management.find("queues", management.vhost, CHARGE)
        await management.delete("queues", management.vhost, CHARGE)
        try:
            with pytest.raises(RedriveStopped, match="stopped after 0 messages: no queue takes it"):
                await redrive(settings.rabbitmq_url, connection, Selection(), 1000, force=True)
            assert await ids(connection, CHARGE) == parked
        finally:
            body = {"durable": True, "arguments": queue["arguments"]}
            await management.put("queues", management.vhost, CHARGE, body=body)


async def test_a_message_that_two_queues_parked_is_discarded_from_one_only(
    settings: BrokerSettings, connection: Connection, tmp_path: Path
) -> None:
    (message_id,) = await park(settings, CHARGE, 1)
    async with dead_letters(connection, CHARGE) as letters:
        (held,) = [held async for held in letters]
    copy = Message("", f"{SMS}.dead", held.dead_letter.message.body, message_id=message_id, headers=EXHAUSTED)
    publisher = Publisher(settings.rabbitmq_url, "test")
    await publisher.start()
    await publisher.connected()
    await publisher.publish(copy)
    await publisher.stop()

    with pytest.raises(NotDiscarded, match="say which with --queue"):
        await discard(connection, Selection(id=message_id), "a test's", tmp_path / "journal")
    gone = await discard(connection, Selection(id=message_id, queue=SMS), "a test's", tmp_path / "journal")

    assert [letter.queue for letter in gone] == [SMS]
    assert (await ids(connection, CHARGE), await ids(connection, SMS)) == ([message_id], [])


async def test_nothing_is_removed_that_the_journal_does_not_hold(
    settings: BrokerSettings, connection: Connection, tmp_path: Path
) -> None:
    (message_id,) = await park(settings, CHARGE, 1)
    (tmp_path / "file").touch()

    with pytest.raises(NotDiscarded, match="nothing was removed"):
        await discard(connection, Selection(id=message_id), "a test's", tmp_path / "file" / "journal")

    assert await ids(connection, CHARGE) == [message_id]

"""Dead letters on a real broker and nothing else: looking changes nothing, and nothing is lost on the way back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.discard import discard
from control_room.operations.dead_letters.parked import WINDOW, connected, dead_letters, inspect
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Selection, groups
from shared.events import encode
from shared.management import Management
from shared.messaging.connection import Connection
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from shared.settings import BrokerSettings
from shared.topology import DELIVERY_LIMIT
from tests.amqp import arrivals, post
from tests.examples import order_placed
from tests.support import eventually

CHARGE, SMS = "payment_service.charge", "notification_service.sms"
EXHAUSTED = {"dead-letter-reason": "attempts-exhausted", "dead-letter-attempts": 4, "attempt": 4}
MANY = 2 * WINDOW + 50
"""More than one consumer may hold, so that their order among each other counts."""


class Queues:
    """Those of a virtual host, empty at first, and a connection to them."""

    def __init__(self, settings: BrokerSettings, connection: Connection, management: Management) -> None:
        self.settings, self.url, self.connection = settings, settings.rabbitmq_url, connection
        self.management = management

    async def publish(self, messages: list[Message]) -> None:
        publisher = Publisher(self.url, "test")
        await publisher.start()
        await publisher.connected()
        for start in range(0, len(messages), 500):
            assert not any(await publisher.publish_all(messages[start : start + 500]))
        await publisher.stop()

    async def park(self, queue: str, count: int, **headers: Any) -> list[str]:
        """That many dead letters; their ids."""
        events = [order_placed() for _ in range(count)]
        parked = {**EXHAUSTED, **headers}
        await self.publish(
            [Message("", f"{queue}.dead", encode(each), message_id=each.id, headers=parked) for each in events]
        )
        return [event.id for event in events]

    async def ids(self, queue: str = CHARGE, connection: Connection | None = None) -> list[str]:
        async with dead_letters(connection or self.connection, queue) as found:
            return [held.dead_letter.id async for held in found]

    async def waiting(self, queue: str) -> int:
        return (await inspect(self.connection, queue)).messages

    async def redrive(self, selection: Selection, rate: float = 100_000, *, force: bool = False) -> int:
        return await redrive(self.url, self.connection, selection, rate, force=force)


@pytest_asyncio.fixture
async def queues(module_broker_settings: BrokerSettings) -> AsyncIterator[Queues]:
    settings = module_broker_settings
    async with Management(settings) as management, connected(settings.rabbitmq_url) as connection:
        for queue in (CHARGE, f"{CHARGE}.dead", f"{SMS}.dead"):
            await management.delete("queues", management.vhost, queue, "contents")
        yield Queues(settings, connection, management)


async def test_looking_removes_and_reorders_nothing(queues: Queues) -> None:
    parked = await queues.park(CHARGE, MANY)
    assert [await queues.ids() for _ in range(3)] == [parked] * 3


@pytest.mark.parametrize("read", [0, 1, WINDOW + 1])
async def test_a_look_that_is_broken_off_puts_everything_back_in_its_place(queues: Queues, read: int) -> None:
    """What is on its way to a consumer as it ends must not get ahead of what it holds; so many times, since it may."""
    parked = await queues.park(CHARGE, WINDOW + 20 if read > 1 else 3)

    for _ in range(30):
        async with dead_letters(queues.connection, CHARGE) as found:
            for _ in range(read):
                await anext(found)

    assert await queues.ids() == parked


async def test_only_what_is_taken_goes(queues: Queues) -> None:
    parked = await queues.park(CHARGE, 20)

    async with dead_letters(queues.connection, CHARGE) as found:
        async for held in found:
            if held.dead_letter.id in parked[5:8]:
                held.take()

    assert await queues.ids() == parked[:5] + parked[8:]


async def test_a_second_reader_waits_for_the_first_and_sees_them_all(queues: Queues) -> None:
    parked = await queues.park(CHARGE, 3)

    async with connected(queues.url) as another:
        async with dead_letters(queues.connection, CHARGE) as found:
            await anext(found)
            second = asyncio.create_task(queues.ids(connection=another))
            await eventually(lambda: inspect(another, f"{CHARGE}.dead"), expecting="the first reader to hold them")
        assert await second == parked


async def test_a_look_ends_though_more_dead_letters_keep_coming(queues: Queues) -> None:
    parked, seen = await queues.park(CHARGE, 3), []

    async with dead_letters(queues.connection, CHARGE) as found:
        async for held in found:
            seen.append(held.dead_letter.id)
            await queues.park(CHARGE, 1)

    assert seen == parked


async def test_dead_letters_are_grouped_by_queue_and_cause(queues: Queues) -> None:
    await queues.park(CHARGE, 7)
    await queues.park(CHARGE, 2, **{"dead-letter-reason": "not-json"})
    await queues.park(SMS, 1)

    found = await groups(queues.connection, Selection(), shown=3)

    assert [(each.queue, each.cause, each.count, len(each.first), each.most_attempts) for each in found] == [
        (CHARGE, "attempts-exhausted", 7, 3, 4),
        (CHARGE, "not-json", 2, 2, 4),
        (SMS, "attempts-exhausted", 1, 1, 4),
    ]


async def test_what_the_broker_parks_itself_is_listed_with_its_cause(queues: Queues) -> None:
    """A consumer that dies with the message in its hands, again and again."""
    event = order_placed()
    await post(queues.management, CHARGE, encode(event).decode(), properties={"message_id": event.id})

    async def die_with_it() -> bool:
        channel = await queues.connection.channel()
        arrived = asyncio.Event()
        await channel.consume(CHARGE, lambda _delivery: arrived.set())
        try:
            await asyncio.wait_for(arrived.wait(), 0.2)
        except TimeoutError:
            pass
        finally:
            await channel.close()
        return await queues.waiting(f"{CHARGE}.dead") == 1

    await eventually(die_with_it, 60, f"the broker to give up after {DELIVERY_LIMIT} returns")

    (group,) = await groups(queues.connection, Selection(), shown=1)
    assert (group.queue, group.cause, group.first[0].id) == (CHARGE, "delivery-limit", event.id)
    assert group.first[0].parked_at is not None


async def test_a_redrive_is_refused_while_nobody_consumes(queues: Queues) -> None:
    parked = await queues.park(CHARGE, 3)

    with pytest.raises(NotDone, match=f"{CHARGE} has no consumer now: payment_service does not run"):
        await queues.redrive(Selection())

    assert await queues.ids() == parked
    assert await queues.waiting(CHARGE) == 0


async def test_a_queue_of_which_nothing_is_selected_needs_no_consumer(queues: Queues) -> None:
    await queues.park(SMS, 1)
    parked = await queues.park(CHARGE, 3)

    async with arrivals(queues.settings, CHARGE) as messages:
        assert await queues.redrive(Selection(queue=CHARGE), 1000) == 3
        await eventually(lambda: len(messages) == 3)

    assert [message.message_id for message in messages] == parked
    assert {(message.headers["attempt"], message.headers["redrive-count"]) for message in messages} == {(1, 1)}


async def test_a_forced_redrive_waits_in_the_queue(queues: Queues) -> None:
    await queues.park(CHARGE, MANY)

    assert await queues.redrive(Selection(), force=True) == MANY

    assert await queues.waiting(CHARGE) == MANY
    assert await queues.ids() == []


async def test_a_redrive_keeps_to_its_rate(queues: Queues) -> None:
    await queues.park(CHARGE, 20)
    started = asyncio.get_running_loop().time()

    await queues.redrive(Selection(), 20, force=True)

    assert 0.8 <= asyncio.get_running_loop().time() - started < 5


async def test_a_redrive_to_a_queue_that_is_gone_stops_and_keeps_the_dead_letters(queues: Queues) -> None:
    parked, management = await queues.park(CHARGE, 3), queues.management
    queue = await management.find("queues", management.vhost, CHARGE)
    await management.delete("queues", management.vhost, CHARGE)
    try:
        with pytest.raises(NotDone, match="stopped after 0 messages: no queue takes it"):
            await queues.redrive(Selection(), force=True)
        assert await queues.ids() == parked
    finally:
        body = {"durable": True, "arguments": queue["arguments"]}
        await management.put("queues", management.vhost, CHARGE, body=body)


async def test_a_message_that_two_queues_parked_is_discarded_from_one_only(queues: Queues, tmp_path: Path) -> None:
    (message_id,) = await queues.park(CHARGE, 1)
    await queues.publish([Message("", f"{SMS}.dead", b"a copy", message_id=message_id, headers=EXHAUSTED)])

    with pytest.raises(NotDone, match="say which with --queue"):
        await discard(queues.connection, Selection(id=message_id), "a test's", tmp_path / "journal")
    gone = await discard(queues.connection, Selection(id=message_id, queue=SMS), "a test's", tmp_path / "journal")

    assert [each.queue for each in gone] == [SMS]
    assert (await queues.ids(CHARGE), await queues.ids(SMS)) == ([message_id], [])


async def test_nothing_is_removed_that_the_journal_does_not_hold(queues: Queues, tmp_path: Path) -> None:
    (message_id,) = await queues.park(CHARGE, 1)
    (tmp_path / "file").touch()

    with pytest.raises(NotDone, match="nothing was removed"):
        await discard(queues.connection, Selection(id=message_id), "a test's", tmp_path / "file" / "journal")

    assert await queues.ids() == [message_id]

"""The outbox relay against a real database and a real broker: what it publishes, and when it is throttled."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
import pytest_asyncio
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select

from control_room.analytics.model import events_in
from shared.contract import EVENTS
from shared.events import OrderPlaced
from shared.ids import new_id
from shared.management import Management
from shared.messaging import stream as stream_module
from shared.messaging.publisher import Publisher
from shared.messaging.stream import Start, StreamReader, StreamWriter, end_of
from shared.persistence import backlog
from shared.persistence import relay as module
from shared.persistence.backlog import BATCH_ROWS
from shared.persistence.batcher import Operation
from shared.persistence.database import Database
from shared.persistence.failures import DatabaseUnavailable
from shared.persistence.outbox import Outbox
from shared.persistence.relay import THROTTLE_ROWS, OutboxRelay
from shared.settings import BrokerSettings
from shared.topology.provision import apply
from tests import examples
from tests.amqp import arrivals, queue_of
from tests.conftest import Broker, virtual_host
from tests.support import eventually, new_database, ready

metadata = MetaData()
outbox = Outbox(metadata, "orders")
visits = Table("visits", metadata, Column("id", Integer, primary_key=True))


def add(connection: Connection, events: list[OrderPlaced]) -> list[None]:
    outbox.add(connection, events)
    return [None for _ in events]


def visit(connection: Connection, visitors: list[None]) -> list[None]:
    connection.execute(insert(visits), [{} for _ in visitors])
    return visitors


def count(connection: Connection, rows: list[None]) -> list[int]:
    return [outbox.count(connection) for _ in rows]


@pytest_asyncio.fixture(scope="module")
async def module_broker_settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host with a stream of events."""
    async with virtual_host(broker, events_kept_hours=1) as settings:
        yield settings


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with ready(new_database(database_url, metadata, name="test")) as database:
        yield database


@asynccontextmanager
async def load(database: Database) -> AsyncIterator[None]:
    """Many callers that write at the same time, over and over."""

    async def write_over_and_over() -> None:
        while True:
            await database.write(visit, None)

    callers = [asyncio.create_task(write_over_and_over()) for _ in range(2 * THROTTLE_ROWS)]
    await eventually(lambda: database.load_of(visit) >= THROTTLE_ROWS, 5, "the load to begin")
    try:
        yield
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


async def fill(database: Database, events: int) -> None:
    await asyncio.gather(*(database.write(add, examples.order_placed()) for _ in range(events)))


async def add_for_nobody(database: Database) -> None:
    """An event of a type that no queue is bound for yet."""
    await database.write(add, examples.order_placed().model_copy(update={"type": "order.unheard-of.v1"}))


@pytest.mark.parametrize("rows_in_memory", [0, BATCH_ROWS // 2, backlog.MAX_ROWS_IN_MEMORY])
@pytest.mark.parametrize("throttled_for", [None, visit])
async def test_all_is_published_once_and_then_gone(
    throttled_for: Operation[None, None] | None,
    rows_in_memory: int,
    database: Database,
    publisher: Publisher,
    module_broker_settings: BrokerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backlog, "MAX_ROWS_IN_MEMORY", rows_in_memory)
    events = 3 * BATCH_ROWS
    async with (
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
        ready(OutboxRelay(database, outbox, publisher, throttled_for=throttled_for)),
        load(database),
    ):
        await fill(database, events)
        await eventually(lambda: len(messages) == events, 30, "all of them")

        await eventually(lambda: left_over(database, 0), 10, "the outbox to be empty")

    assert len({message.message_id for message in messages}) == events


async def test_rows_that_no_commit_has_handed_over_are_found(
    database: Database, publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with (
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
        ready(OutboxRelay(database, outbox, publisher)),
    ):
        await fill(database, 1)
        await eventually(lambda: len(messages) == 1, 10, "the relay to be at work")
        with database.engine.begin() as connection:
            outbox.add(connection, [examples.order_placed()])
        await eventually(lambda: len(messages) == 2, 10, "the other one")


@pytest.fixture
def missing_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the contract of a service took the type of `add_for_nobody`, and its queue were missing."""
    monkeypatch.setattr(module, "is_taken", lambda _type: True)


@pytest.mark.parametrize("keeps_events", [False, True])
async def test_what_no_service_takes_leaves_the_outbox(
    keeps_events: bool, database: Database, publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with writing(module_broker_settings) as writer:
        stream = writer if keeps_events else None
        async with ready(OutboxRelay(database, outbox, publisher, stream=stream)):
            await add_for_nobody(database)
            await eventually(lambda: left_over(database, 0), 10, "the outbox to be empty")


@pytest.mark.usefixtures("missing_queue")
@pytest.mark.parametrize("keeps_events", [False, True])
async def test_what_no_queue_takes_stays_until_one_does_and_holds_up_nobody(
    keeps_events: bool, database: Database, publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    async with writing(module_broker_settings) as writer:
        stream = writer if keeps_events else None
        async with ready(OutboxRelay(database, outbox, publisher, stream=stream)):
            await add_for_nobody(database)
            await eventually(lambda: returned(database), 10, "it to be returned")
            async with (
                queue_of(module_broker_settings, "orders", "order.#") as queue,
                arrivals(module_broker_settings, queue) as messages,
            ):
                await fill(database, 1)
                await eventually(lambda: len({message.message_id for message in messages}) == 2, 20, "both")
                await eventually(lambda: left_over(database, 0), 10, "the outbox to be empty")


@pytest.mark.usefixtures("missing_queue")
async def test_the_stream_gets_every_event_once_also_one_that_no_queue_takes(
    database: Database, publisher: Publisher, module_broker_settings: BrokerSettings
) -> None:
    before = await end_of(module_broker_settings.rabbitmq_url, "test")
    async with (
        writing(module_broker_settings) as writer,
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
        ready(OutboxRelay(database, outbox, publisher, stream=writer)),
    ):
        await add_for_nobody(database)
        await eventually(lambda: returned(database), 10, "it to be returned")
        await fill(database, 2 * BATCH_ROWS)
        await eventually(lambda: left_over(database, 1), 20, "all but one to be gone from the outbox")
        await eventually(lambda: returned(database, 3), 20, "it to be returned again and again")
    published = Counter(message.message_id for message in messages)
    copied = Counter(await copies(module_broker_settings, 0 if before is None else before + 1))

    assert len(copied) == 2 * BATCH_ROWS + 1
    assert set(copied) > set(published)
    assert set(copied.values()) == set(published.values()) == {1}


@pytest_asyncio.fixture
async def own_settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    async with virtual_host(broker, events_kept_hours=1) as settings:
        yield settings


async def test_a_stream_that_takes_nothing_holds_up_nobody_and_gets_it_all_later(
    database: Database, own_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue stands in for it: the broker refuses what is written to it."""
    monkeypatch.setattr(stream_module, "PAUSE_SECONDS", 0.5)
    vhost, events = own_settings.vhost, 3 * BATCH_ROWS
    async with (
        Management(own_settings) as management,
        ready(Publisher(own_settings.rabbitmq_url, "test", exchanges=["orders"])) as publisher,
        writing(own_settings) as writer,
        queue_of(own_settings, "orders", "order.placed.v1") as queue,
        arrivals(own_settings, queue) as messages,
        ready(OutboxRelay(database, outbox, publisher, stream=writer)),
    ):
        await management.delete("queues", vhost, EVENTS)
        full = {"x-queue-type": "quorum", "x-max-length": 0, "x-overflow": "reject-publish"}
        await management.put("queues", vhost, EVENTS, body={"durable": True, "arguments": full})
        await fill(database, events)
        await eventually(lambda: len(messages) >= events, 20, "all of them to be published")
        assert not await left_over(database, 0)

        await management.delete("queues", vhost, EVENTS)
        await apply(own_settings)
        await eventually(lambda: left_over(database, 0), 40, "the outbox to be empty")
        assert len(messages) == events  # none was published again for its copy
        # A queue finds out that it is full a few messages late: those went with it.
        assert len(set(await copies(own_settings, "first"))) > events // 2


async def test_a_stream_that_is_missing_for_long_is_not_waited_for(
    database: Database, own_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "MISSING_SECONDS", 0.5)
    async with (
        Management(own_settings) as management,
        ready(Publisher(own_settings.rabbitmq_url, "test", exchanges=["orders"])) as publisher,
        writing(own_settings) as writer,
        queue_of(own_settings, "orders", "order.placed.v1"),
        ready(OutboxRelay(database, outbox, publisher, stream=writer)),
    ):
        await management.delete("queues", own_settings.vhost, EVENTS)
        await fill(database, 3)
        await eventually(lambda: left_over(database, 0), 10, "the outbox to be empty")


async def test_while_a_database_cannot_forget_its_rows_they_are_not_published_again(
    database: Database,
    publisher: Publisher,
    module_broker_settings: BrokerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures: list[list[int]] = []

    def fail(connection: Connection, ids: list[int]) -> None:
        failures.append(ids)
        raise DatabaseUnavailable("the disk is full")

    async with (
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
        ready(OutboxRelay(database, outbox, publisher)),
    ):
        with monkeypatch.context() as full_disk:
            full_disk.setattr(outbox, "forget", fail)
            await fill(database, 1)
            await eventually(lambda: len(failures) >= 3, 20, "it to fail over and over")
        await eventually(lambda: left_over(database, 0), 10, "the outbox to be empty")
        await fill(database, 1)
        await eventually(lambda: len({message.message_id for message in messages}) == 2, 10, "the next one")

    assert len(messages) == 2


async def test_a_throttled_relay_waits_for_the_load_to_end(
    database: Database,
    publisher: Publisher,
    module_broker_settings: BrokerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "THROTTLE_SECONDS", 1e6)
    async with (
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
    ):
        await fill(database, 2 * BATCH_ROWS)
        async with load(database), ready(OutboxRelay(database, outbox, publisher, throttled_for=visit)):
            await eventually(lambda: len(messages) == BATCH_ROWS, 10, "the first batch to be published")
            await asyncio.gather(*(database.write(visit, None) for _ in range(500)))
            assert len(messages) == BATCH_ROWS
        assert await left_over(database, 0)  # asked to stop, it is no longer throttled


async def returned(database: Database, times: int = 1) -> bool:
    """Whether a row has been put behind the others so many times."""

    def most(connection: Connection, rows: list[None]) -> list[int | None]:
        return [connection.execute(select(func.max(outbox.table.c.returns))).scalar() for _ in rows]

    return (await database.read(most, None) or 0) >= times


@asynccontextmanager
async def writing(settings: BrokerSettings) -> AsyncIterator[StreamWriter]:
    """A writer to the stream, once it is connected."""
    async with ready(StreamWriter(settings.rabbitmq_url, f"test {new_id()}")) as writer:
        await eventually(lambda: writer._publisher.is_connected, 10, "the writer to be connected")
        yield writer


async def copies(settings: BrokerSettings, start: Start) -> list[str]:
    """The ids of the events in the stream, from there to its end."""
    end, found = await end_of(settings.rabbitmq_url, "test"), []
    async with aclosing(StreamReader(settings.rabbitmq_url, "test", start).read()) as arrivals:
        async for arrival in arrivals:
            found += [event["id"] for entry in arrival.entries for event in events_in(entry.body)]
            if arrival.entries and arrival.entries[-1].offset == end:
                break
    return found


async def left_over(database: Database, expected: int) -> bool:
    return await database.read(count, None) == expected

"""The order service's tables: orders and keys are written once, timelines keep what arrived, pages miss nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy import Connection

from order_service import store
from order_service.orders import OrderStatus, SweepDelays, timeline_entry
from order_service.store import PageOfOrders, Placed, Placement, Report, Tracked
from shared.events import Event, OrderPlaced, decode
from shared.ids import new_id
from shared.persistence.database import Database
from shared.persistence.pages import Page
from tests import examples
from tests.support import start_ready

SWEEP_DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "restaurant"), 60.0))


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, store.metadata, name="orders")
    await start_ready(database)
    yield database
    await database.stop()


async def place(database: Database, *placements: Placement) -> list[Placed]:
    """In one group."""
    return await asyncio.gather(*(database.write(store.place, placement) for placement in placements))


async def placed_order(database: Database) -> OrderPlaced:
    event = examples.order_placed()
    await place(database, Placement(event))
    return event


async def track(database: Database, order_id: str, *events: Event) -> list[Tracked]:
    """In one group."""
    reports = [Report(order_id, timeline_entry(event), SWEEP_DELAYS) for event in events]
    return await asyncio.gather(*(database.write(store.track, report) for report in reports))


async def outbox_of(database: Database) -> list[Event]:
    def read(connection: Connection, limits: list[int]) -> list[list[Event]]:
        return [[decode(row.message.body) for row in store.outbox.waiting(connection, limit)] for limit in limits]

    return await database.read(read, 1000)


async def page(database: Database, limit: int, after: str | None) -> list[str]:
    return [order.order_id for order in await database.read(store.page, PageOfOrders(limit, after))]


async def test_an_order_and_its_event_are_written_together(database: Database) -> None:
    event = await placed_order(database)

    order = await database.read(store.get, event.subject)
    assert order is not None
    assert (order.status, order.summary, order.placed_at) == (OrderStatus.PLACED, event.data.order, event.time)
    assert [entry.type for entry in order.timeline] == ["order.placed.v1"]
    assert await outbox_of(database) == [event]


async def test_the_same_key_twice_in_one_group_places_one_order(database: Database) -> None:
    first, second, other = examples.order_placed(), examples.order_placed(), examples.order_placed()

    results = await place(
        database, Placement(first, "key", "asked"), Placement(second, "key", "asked"), Placement(other)
    )

    assert results == [Placed(first.subject, "asked"), Placed(first.subject, "asked"), Placed(other.subject, "")]
    assert await database.read(store.get, second.subject) is None
    assert await outbox_of(database) == [first, other]


async def test_the_same_key_later_answers_with_the_first_order(database: Database) -> None:
    first, second = examples.order_placed(), examples.order_placed()
    await place(database, Placement(first, "key", "asked"))

    assert await place(database, Placement(second, "key", "asked")) == [Placed(first.subject, "asked")]
    assert await outbox_of(database) == [first]
    order = await database.read(store.get, first.subject)
    assert order is not None
    assert order.duplicates == 1


async def test_a_key_used_for_something_else_tells_what_it_was_used_for(database: Database) -> None:
    first, second = examples.order_placed(), examples.order_placed()
    await place(database, Placement(first, "key", "a cola"))

    assert await place(database, Placement(second, "key", "two colas")) == [Placed(first.subject, "a cola")]
    assert await database.read(store.get, second.subject) is None
    order = await database.read(store.get, first.subject)
    assert order is not None
    assert order.duplicates == 0


async def test_two_replicas_with_the_same_keys_place_each_order_once(database_url: str) -> None:
    databases = [Database(database_url, store.metadata, name=f"orders-{number}") for number in range(2)]
    for database in databases:
        await start_ready(database)
    keys = [f"key-{number:02}" for number in range(30)]

    first, second = await asyncio.gather(
        *(place(each, *(Placement(examples.order_placed(), key, "asked") for key in keys)) for each in databases)
    )

    assert first == second
    assert sorted(placed.order_id for placed in first) == sorted(await page(databases[0], 100, None))
    assert len(await outbox_of(databases[0])) == len(keys)
    for database in databases:
        await database.stop()


async def test_a_report_moves_the_order_on(database: Database) -> None:
    order_id = (await placed_order(database)).subject

    assert await track(database, order_id, examples.payment_succeeded(order_id)) == [Tracked.RECORDED]
    assert await track(database, order_id, examples.receipt_delivered(order_id)) == [Tracked.RECORDED]

    order = await database.read(store.get, order_id)
    assert order is not None
    assert order.status is OrderStatus.CONFIRMED
    assert [entry.type for entry in order.timeline] == [
        "order.placed.v1", "payment.succeeded.v1", "notification.delivered.v1"
    ]  # fmt: skip


async def test_the_same_report_twice_is_a_duplicate_in_one_group_and_later(database: Database) -> None:
    order_id = (await placed_order(database)).subject
    paid = examples.payment_succeeded(order_id)

    assert await track(database, order_id, paid, paid) == [Tracked.RECORDED, Tracked.DUPLICATE]
    assert await track(database, order_id, paid) == [Tracked.DUPLICATE]

    order = await database.read(store.get, order_id)
    assert order is not None
    assert len(order.timeline) == 2
    assert order.duplicates == 2


async def test_a_report_on_an_unknown_order_is_recorded_nowhere(database: Database) -> None:
    known = (await placed_order(database)).subject
    unknown = new_id()
    paid = examples.payment_succeeded(unknown)

    reports = [
        Report(unknown, timeline_entry(paid), SWEEP_DELAYS),
        Report(known, timeline_entry(examples.payment_succeeded(known)), SWEEP_DELAYS),
    ]
    results = await asyncio.gather(*(database.write(store.track, report) for report in reports))

    assert results == [Tracked.UNKNOWN_ORDER, Tracked.RECORDED]
    assert await database.read(store.get, unknown) is None


async def test_replicas_that_track_one_order_at_once_lose_nothing(database_url: str) -> None:
    databases = [Database(database_url, store.metadata, name=f"orders-{number}") for number in range(2)]
    for database in databases:
        await start_ready(database)
    order_ids = [(await placed_order(databases[0])).subject for _ in range(20)]

    await asyncio.gather(
        *(track(databases[0], order_id, examples.payment_succeeded(order_id)) for order_id in order_ids),
        *(track(databases[1], order_id, examples.receipt_delivered(order_id)) for order_id in order_ids),
    )

    orders = [await databases[1].read(store.get, order_id) for order_id in order_ids]
    assert {order.status for order in orders if order} == {OrderStatus.CONFIRMED}
    for database in databases:
        await database.stop()


async def test_pages_walk_every_order_once_newest_first(database: Database) -> None:
    order_ids = [(await placed_order(database)).subject for _ in range(7)]

    walked: list[str] = []
    while found := await page(database, 3, walked[-1] if walked else None):
        assert len(found) <= 3
        walked += found

    assert walked == order_ids[::-1]


async def test_the_audit_walks_every_order_once_oldest_first(database: Database) -> None:
    order_ids = [(await placed_order(database)).subject for _ in range(7)]

    walked: list[str] = []
    while rows := await database.read(store.pages, Page(walked[-1] if walked else None, 3)):
        walked += [row.order_id for row in rows]

    assert walked == order_ids

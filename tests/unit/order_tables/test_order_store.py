"""The order service's tables: orders and keys are written once, timelines keep every event, pages miss no order."""

import asyncio

from order_service import store
from order_service.orders import Order, OrderStatus, SweepDelays, timeline_entry
from order_service.store import Placed, Placement, Report, Tracked
from shared.events import Event, OrderPlaced
from shared.ids import new_id
from shared.persistence.database import Database
from shared.persistence.pages import Page, ReadPages
from tests import examples
from tests.support import outbox_events

SWEEP_DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "restaurant"), 60.0))


async def place(database: Database, *placements: Placement) -> list[Placed]:
    """In one batch."""
    return await asyncio.gather(*(database.write(store.place, placement) for placement in placements))


async def placed_order(database: Database) -> OrderPlaced:
    event = examples.order_placed()
    await place(database, Placement(event))
    return event


async def track(database: Database, order_id: str, *events: Event) -> list[Tracked]:
    """In one batch."""
    reports = [Report(order_id, timeline_entry(event), SWEEP_DELAYS) for event in events]
    return await asyncio.gather(*(database.write(store.track, report) for report in reports))


async def order_of(database: Database, order_id: str) -> Order:
    order = await database.read(store.get, order_id)
    assert order is not None
    return order


async def walk(database: Database, pages: ReadPages, limit: int = 3) -> list[str]:
    """The ids of all orders, page by page."""
    walked: list[str] = []
    while rows := await database.read(pages, Page(walked[-1] if walked else None, limit)):
        assert len(rows) <= limit
        walked += [row.order_id for row in rows]
    return walked


async def test_an_order_and_its_event_are_written_together(database: Database) -> None:
    event = await placed_order(database)

    order = await order_of(database, event.subject)
    assert (order.status, order.summary, order.placed_at) == (OrderStatus.PLACED, event.data.order, event.time)
    assert [entry.type for entry in order.timeline] == ["order.placed.v1"]
    assert await outbox_events(database, store.outbox) == [event]


async def test_a_key_places_one_order_in_one_batch_and_later(database: Database) -> None:
    first, second, third, other = (examples.order_placed() for _ in range(4))
    again = Placed(first.subject, "a cola")

    assert await place(
        database, Placement(first, "key", "a cola"), Placement(second, "key", "a cola"), Placement(other)
    ) == [again, again, Placed(other.subject, "")]
    assert await place(database, Placement(third, "key", "a cola")) == [again]
    assert (await order_of(database, first.subject)).duplicates == 2

    assert await place(database, Placement(third, "key", "two colas")) == [again]  # with another body: no duplicate
    assert (await order_of(database, first.subject)).duplicates == 2
    assert [await database.read(store.get, event.subject) for event in (second, third)] == [None, None]
    assert await outbox_events(database, store.outbox) == [first, other]


async def test_two_replicas_with_the_same_keys_place_each_order_once(database: Database, replica: Database) -> None:
    keys = [f"key-{number:02}" for number in range(30)]

    first, second = await asyncio.gather(
        *(
            place(each, *(Placement(examples.order_placed(), key, "asked") for key in keys))
            for each in (database, replica)
        )
    )

    assert first == second
    assert sorted(placed.order_id for placed in first) == sorted(await walk(database, store.pages))
    assert len(await outbox_events(database, store.outbox)) == len(keys)


async def test_an_event_changes_the_status_once(database: Database) -> None:
    order_id = (await placed_order(database)).subject
    paid, receipt = examples.payment_succeeded(order_id), examples.receipt_delivered(order_id)

    assert await track(database, order_id, paid, paid) == [Tracked.RECORDED, Tracked.DUPLICATE]
    assert await track(database, order_id, receipt) == [Tracked.RECORDED]
    assert await track(database, order_id, paid) == [Tracked.DUPLICATE]

    order = await order_of(database, order_id)
    assert (order.status, order.duplicates) == (OrderStatus.CONFIRMED, 2)
    assert [entry.event_id for entry in order.timeline] == [order_id, paid.id, receipt.id]


async def test_an_event_of_an_unknown_order_is_recorded_nowhere(database: Database) -> None:
    known, unknown = (await placed_order(database)).subject, new_id()
    paid = timeline_entry(examples.payment_succeeded(unknown))

    results = await asyncio.gather(
        *(database.write(store.track, Report(order_id, paid, SWEEP_DELAYS)) for order_id in (unknown, known))
    )

    assert results == [Tracked.UNKNOWN_ORDER, Tracked.RECORDED]
    assert await database.read(store.get, unknown) is None


async def test_replicas_that_track_one_order_at_once_lose_nothing(database: Database, replica: Database) -> None:
    order_ids = [(await placed_order(database)).subject for _ in range(20)]

    await asyncio.gather(
        *(track(database, order_id, examples.payment_succeeded(order_id)) for order_id in order_ids),
        *(track(replica, order_id, examples.receipt_delivered(order_id)) for order_id in order_ids),
    )

    assert {(await order_of(replica, order_id)).status for order_id in order_ids} == {OrderStatus.CONFIRMED}


async def test_pages_walk_every_order_once_newest_first_and_the_audit_oldest_first(database: Database) -> None:
    order_ids = [(await placed_order(database)).subject for _ in range(7)]

    assert await walk(database, store.newest_first) == order_ids[::-1]
    assert await walk(database, store.pages) == order_ids

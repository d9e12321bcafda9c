"""After a restore the event of each order that is not over is re-emitted once: RabbitMQ has no message of it."""

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from order_service import store
from order_service.orders import SweepDelays, timeline_entry
from order_service.store import Placement, Report
from order_service.sweep.after_restore import AfterRestore
from shared.events import Event
from shared.messaging.consumer import Consumer
from shared.persistence import milestones
from shared.persistence.database import Database
from shared.persistence.milestones import Milestone
from tests import examples
from tests.support import outbox_events

DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "push", "restaurant"), 3600.0))
NOTIFIED = [examples.receipt_delivered(), examples.ticket_delivered()]
CONSUMER = cast(Consumer, None)  # `work` has no use for it

OPEN: dict[str, list[Event]] = {
    "placed": [],
    "paid": [examples.payment_succeeded()],
    "stalled": [examples.payment_stalled()],
    "receipt given up": [examples.payment_succeeded(), examples.receipt_failed(), examples.ticket_delivered()],
}
OVER: dict[str, list[Event]] = {"confirmed": [examples.payment_succeeded(), *NOTIFIED]}


async def order(database: Database, events: list[Event]) -> str:
    """The id of an order with this timeline."""
    placed = examples.order_placed()
    await database.write(store.place, Placement(placed))
    for event in events:
        entry = timeline_entry(event.model_copy(update={"id": f"{event.id}-{placed.subject}"}))
        await database.write(store.track, Report(placed.subject, entry, DELAYS))
    return placed.subject


async def restored(database: Database, *, ago: timedelta = timedelta(0)) -> None:
    await database.write(milestones.reach, Milestone(milestones.RESTORED_AT, datetime.now(UTC) - ago))


async def re_emitted(database: Database) -> list[str]:
    """The orders of events that wait in the outbox as re-emitted ones."""
    return [event.subject for event in await outbox_events(database, store.outbox) if event.again]


@pytest.mark.parametrize("state", OPEN)
async def test_an_order_that_is_not_over_is_re_emitted_once(database: Database, state: str) -> None:
    order_id = await order(database, OPEN[state])
    await restored(database)
    for _ in range(2):  # two processes, one after the other
        await AfterRestore(database, CONSUMER).work()
    assert await re_emitted(database) == [order_id]


@pytest.mark.parametrize("state", OVER)
async def test_an_order_that_is_over_is_left_alone(database: Database, state: str) -> None:
    await order(database, OVER[state])
    await restored(database)
    await AfterRestore(database, CONSUMER).work()
    assert await re_emitted(database) == []


async def test_without_a_restore_nothing_is_re_emitted(database: Database) -> None:
    await order(database, [])
    await AfterRestore(database, CONSUMER).work()
    assert await re_emitted(database) == []


async def test_orders_that_were_placed_since_have_their_messages(database: Database) -> None:
    await restored(database, ago=timedelta(seconds=1))
    await order(database, [])
    await AfterRestore(database, CONSUMER).work()
    assert await re_emitted(database) == []


async def test_all_of_many_orders_are_re_emitted_page_by_page(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("order_service.sweep.after_restore.MAX_ORDERS_AT_ONCE", 2)
    order_ids = [await order(database, []) for _ in range(5)]
    await restored(database)
    await AfterRestore(database, CONSUMER).work()
    assert await re_emitted(database) == sorted(order_ids)


async def test_a_second_restore_re_emits_them_again(database: Database) -> None:
    order_id = await order(database, [])
    for _ in range(2):
        await restored(database)
        await AfterRestore(database, CONSUMER).work()
    assert await re_emitted(database) == [order_id] * 2

"""Old orders go with all that belongs to them, and none that is not settled."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Table, event, func, select, update

from order_service import store
from order_service.cancelling.store import Cancellation, cancel
from order_service.orders import CancellationRules, SweepDelays, cancellation, timeline_entry
from order_service.pruning import SettledOrders
from order_service.pruning import store as pruning_store
from order_service.store import Placed, Placement, Report
from shared.events import Event
from shared.http.prune import Horizon, Prunable
from shared.ids import first_id, made_at
from shared.persistence.database import Database
from tests import examples

DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "restaurant"), 60.0))
JULY, AUGUST = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 8, 1, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)
RULES = CancellationRules(within_seconds=900)
TABLES = (store.orders, store.timeline, store.idempotency_keys, store.duplicates)
Make = Callable[[Database, str], Awaitable[None]]
EVERYTHING = first_id(datetime.now(UTC) + timedelta(days=1))


def old_id(number: int) -> str:
    return first_id(JULY + number * MOMENT)


async def place(database: Database, order_id: str, key: str | None = None) -> Placed:
    return await database.write(store.place, Placement(examples.order_placed(order_id), key, "the same"))


async def report(database: Database, *events: Event) -> None:
    for each in events:
        await database.write(store.track, Report(each.subject, timeline_entry(each), DELAYS))


async def settled(database: Database, number: int) -> str:
    order_id = old_id(number)
    await place(database, order_id, key=f"key {number}")
    reports = (examples.payment_succeeded, examples.receipt_delivered, examples.ticket_delivered)
    await report(database, *(make(order_id=order_id) for make in reports))
    return order_id


async def long_quiet(database: Database) -> None:
    """Let the last change of every order be of long ago."""
    change = update(store.orders).values(updated_at=JULY)
    await database.write(lambda connection, rows: [connection.execute(change) for _ in rows], None)


async def rows(database: Database, table: Table) -> int:
    return await database.read(lambda connection, tables: [_count(connection, each) for each in tables], table)


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


async def pruned(database: Database, before: str, limit: int = 100) -> list[int]:
    """How many orders each batch deleted."""
    prunable, batches = Prunable(database, pruning_store.prune_orders), [limit]
    while batches[-1]:
        batches.append((await prunable.delete(before, limit)).records)
    return batches[1:-1]


async def test_an_old_order_goes_with_all_that_belongs_to_it(database: Database) -> None:
    old, younger = await settled(database, 0), await settled(database, 1)
    for number in (0, 1):
        assert (await place(database, old_id(10 + number), f"key {number}")).order_id == old_id(number)  # a duplicate
    assert [await rows(database, table) for table in TABLES] == [2, 6, 2, 2]

    assert await pruned(database, younger) == [1]
    assert (await Prunable(database, pruning_store.prune_duplicates).delete(younger, 100)).records == 1

    assert [await rows(database, table) for table in TABLES] == [1, 3, 1, 1]
    assert [order and order.order_id for order in [await database.read(store.get, id) for id in (old, younger)]] == [
        None, younger,
    ]  # fmt: skip
    assert (await place(database, old_id(20), "key 0")).order_id == old_id(20)  # its key is free again


async def test_orders_go_in_batches_oldest_first(database: Database) -> None:
    ids = [await settled(database, number) for number in range(7)]

    assert (await Prunable(database, pruning_store.prune_orders).delete(ids[6], 2)).records == 2
    assert [await database.read(store.get, order_id) is None for order_id in ids] == [True] * 2 + [False] * 5
    assert await pruned(database, ids[6], limit=3) == [3, 1]
    assert await rows(database, store.orders) == 1


async def test_two_replicas_share_the_work(database: Database, replica: Database) -> None:
    for number in range(40):
        await settled(database, number)

    batches = await asyncio.gather(*(pruned(each, EVERYTHING, limit=5) for each in (database, replica)))

    assert sum(map(sum, batches)) == 40
    assert [await rows(database, table) for table in TABLES] == [0, 0, 0, 0]


async def _unpaid(database: Database, order_id: str) -> None:
    await place(database, order_id)


async def _stalled(database: Database, order_id: str) -> None:
    await place(database, order_id)
    await report(database, examples.payment_stalled(order_id))


async def _without_a_ticket(database: Database, order_id: str) -> None:
    await place(database, order_id)
    await report(database, examples.payment_succeeded(order_id), examples.receipt_delivered(order_id=order_id))


async def _without_a_receipt(database: Database, order_id: str) -> None:
    """Its receipt was given up."""
    await place(database, order_id)
    tickets = (examples.receipt_failed(order_id), examples.ticket_delivered(order_id=order_id))
    await report(database, examples.payment_succeeded(order_id), *tickets)


async def _being_cancelled(database: Database, order_id: str) -> None:
    await place(database, order_id)
    await database.write(cancel, Cancellation(order_id, cancellation("customer"), None, RULES, DELAYS))


@pytest.mark.parametrize("make", [_unpaid, _stalled, _without_a_ticket, _without_a_receipt, _being_cancelled])
async def test_the_oldest_order_that_is_not_settled_holds_the_horizon_back(
    database: Database, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("order_service.pruning.ORDERS_AT_ONCE", 2)
    for number in (0, 1, 2, 4):
        await settled(database, number)
    horizon, before = SettledOrders(database, RULES).horizon, made_at(old_id(3))
    await long_quiet(database)
    assert await horizon(AUGUST) == Horizon(AUGUST)

    await make(database, old_id(3))
    await long_quiet(database)

    assert await horizon(AUGUST) == Horizon(before, old_id(3))
    assert await horizon(before) == Horizon(before)  # an earlier moment is not held back


async def test_an_old_order_that_was_finished_today_stays_for_a_day(database: Database) -> None:
    """As one that was stalled for long; its customer should see the end."""
    await settled(database, 0)
    await long_quiet(database)
    finished_today = await settled(database, 1)

    assert await SettledOrders(database, RULES).horizon(AUGUST) == Horizon(made_at(finished_today), finished_today)


async def test_an_order_that_can_still_be_cancelled_stays(database: Database) -> None:
    month = timedelta(days=30)
    horizon = SettledOrders(database, CancellationRules(month.total_seconds())).horizon

    before, held_by = await horizon(datetime.now(UTC) - timedelta(days=1))

    assert abs(datetime.now(UTC) - month - before) < timedelta(minutes=1)
    assert held_by is None


async def test_an_old_key_is_found_through_an_index(database: Database) -> None:
    if database.is_shared:
        pytest.skip("PostgreSQL's planner reads a small table as a whole")
    plans: list[str] = []

    def explain(connection: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("DELETE", "SELECT orders.order_id \n")):
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row.detail for row in found if "json_each" not in row.detail)

    order_id = await settled(database, 0)
    event.listen(database.engine, "before_cursor_execute", explain)
    assert await pruned(database, EVERYTHING) == [1]
    event.remove(database.engine, "before_cursor_execute", explain)

    assert len(plans) >= 4, order_id
    assert not [plan for plan in plans if plan.startswith("SCAN")], plans

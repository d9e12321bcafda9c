"""Which orders the sweep tells again: those that were passed by, and one of those that may just be waiting."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from order_service import store
from order_service.app import Settings
from order_service.orders import CHARGE, OrderStatus, Progress, SweepDelays, awaits, seems_lost, timeline_entry
from order_service.store import Placement, Report
from order_service.sweep.store import Sweep
from order_service.sweep.store import sweep as sweep_once
from shared import contract
from shared.events import Event, OrderPlaced, decode
from shared.persistence.database import Database
from tests import examples
from tests.support import start_ready

LIMIT = 100
EMAIL, SMS, RESTAURANT = "email", "sms", "restaurant"
QUEUES = {
    "charge": "payment_service.charge",
    **{name: f"notification_service.{name}" for name in (EMAIL, SMS, RESTAURANT)},
}
LONG, NOW, LATE = 60.0, 0.0, 3600.0
EARLIER, LATER, LAST = sorted(examples.order_placed().subject for _ in range(3))
TOLD = [examples.receipt_delivered(), examples.ticket_delivered()]


def test_an_order_is_lost_once_a_later_one_had_its_turn() -> None:
    turns = Progress(charged=LATER, notified=None)
    assert seems_lost(EARLIER, OrderStatus.PLACED, turns)
    assert not seems_lost(LAST, OrderStatus.PLACED, turns)
    assert not seems_lost(EARLIER, OrderStatus.PLACED, Progress(charged=None, notified=None))


def test_an_answered_order_waits_for_the_notification_service_and_not_for_payment() -> None:
    for status in (OrderStatus.PAID, OrderStatus.CONFIRMED, OrderStatus.DECLINED):
        assert not seems_lost(EARLIER, status, Progress(charged=LATER, notified=None))
        assert seems_lost(EARLIER, status, Progress(charged=None, notified=LATER))


@pytest.mark.parametrize("status", OrderStatus)
def test_an_order_is_open_until_everyone_is_told(status: OrderStatus) -> None:
    expected = {
        OrderStatus.PLACED: True,
        OrderStatus.PAID: True,
        OrderStatus.CONFIRMED: True,
        OrderStatus.DECLINED: True,
    }
    assert bool(awaits(status, [], wants_sms=True)) is expected.get(status, False)


@pytest.mark.parametrize("status", [OrderStatus.PAID, OrderStatus.CONFIRMED])
def test_a_paid_order_is_open_while_one_of_the_channels_is_silent(status: OrderStatus) -> None:
    reports = [timeline_entry(event) for event in TOLD]
    for some in (*combinations(reports, 0), *combinations(reports, 1)):
        assert awaits(status, some, wants_sms=False)
    assert not awaits(status, reports, wants_sms=False)
    assert awaits(status, reports, wants_sms=True) == {SMS}


def test_a_notification_that_was_given_up_is_no_longer_waited_for() -> None:
    reports = [timeline_entry(event) for event in (examples.receipt_failed(), examples.ticket_delivered())]
    assert not awaits(OrderStatus.PAID, reports, wants_sms=False)


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, store.metadata, name="orders")
    await start_ready(database)
    yield database
    await database.stop()


async def placed(database: Database, count: int) -> list[str]:
    """Orders that were placed two minutes ago, oldest first, and are no longer in the outbox."""
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    events = [examples.order_placed().model_copy(update={"time": long_ago}) for _ in range(count)]
    await asyncio.gather(*(database.write(store.place, Placement(event)) for event in events))
    await database.write(_empty_outbox, None)
    return sorted(event.subject for event in events)


def _empty_outbox(connection: Connection, rows: list[None]) -> list[None]:
    store.outbox.forget(connection, [row.id for row in store.outbox.waiting(connection, LIMIT)])
    return rows


async def told_again(database: Database) -> list[OrderPlaced]:
    def read(connection: Connection, limits: list[int]) -> list[list[Event]]:
        return [[decode(row.message.body) for row in store.outbox.waiting(connection, limit)] for limit in limits]

    return [event for event in await database.read(read, LIMIT) if isinstance(event, OrderPlaced)]


def sweep_delays(seconds: float, *, emails: float | None = None) -> SweepDelays:
    return SweepDelays({**dict.fromkeys(QUEUES, seconds), EMAIL: seconds if emails is None else emails})


async def hear(database: Database, order_id: str, *events: Event, delays: SweepDelays | None = None) -> None:
    for event in events:
        await database.write(store.track, Report(order_id, timeline_entry(event), delays or sweep_delays(LONG)))


async def sweep(database: Database, delays: SweepDelays | float) -> list[str]:
    wanted = delays if isinstance(delays, SweepDelays) else sweep_delays(delays)
    return sorted(await database.write(sweep_once, Sweep(wanted, LIMIT)))


async def test_orders_that_a_later_one_has_passed_by_are_told_again_under_their_own_id(database: Database) -> None:
    first, second, third = await placed(database, 3)
    await hear(database, third, examples.payment_succeeded(third), *TOLD)
    assert await sweep(database, NOW) == [first, second]
    again = await told_again(database)
    assert sorted(event.id for event in again) == [first, second]
    assert all(event.again for event in again)


async def test_of_orders_that_wait_while_nobody_is_served_one_is_told_again(database: Database) -> None:
    orders = await placed(database, 3)
    assert await sweep(database, LONG) == orders[-1:]


async def test_who_was_passed_by_just_now_may_still_be_under_way(database: Database) -> None:
    orders = await placed(database, 3)
    await hear(database, orders[2], examples.payment_succeeded(orders[2]), *TOLD)
    assert await sweep(database, LONG) == orders[1:2]  # the one that is told again to find out


async def test_an_answered_order_of_which_nobody_was_told_is_told_again_after_later_ones(database: Database) -> None:
    silent, later = await placed(database, 2)
    await hear(database, silent, examples.payment_succeeded(silent))
    await hear(database, later, examples.payment_succeeded(later), *TOLD)
    assert await sweep(database, NOW) == [silent]


async def test_an_order_of_which_everyone_was_told_is_left_alone(database: Database) -> None:
    (order,) = await placed(database, 1)
    await hear(database, order, examples.payment_succeeded(order), *TOLD)
    assert await sweep(database, NOW) == []


async def test_an_order_that_was_told_again_is_left_alone_for_a_while(database: Database) -> None:
    (order,) = await placed(database, 1)
    assert await sweep(database, LONG) == [order]
    assert await sweep(database, LONG) == []


async def test_an_order_that_lacks_an_email_alone_has_the_time_that_emails_take(database: Database) -> None:
    delays = sweep_delays(NOW, emails=LATE)
    mailing, later = await placed(database, 2)
    await hear(database, mailing, examples.payment_succeeded(mailing), examples.ticket_delivered(), delays=delays)
    await hear(database, later, examples.payment_succeeded(later), *TOLD, delays=delays)

    assert await sweep(database, delays) == []
    assert await sweep(database, sweep_delays(-LATE, emails=NOW)) == [mailing]  # an hour later


async def test_an_order_that_lacks_a_kitchen_ticket_too_is_told_again_soon(database: Database) -> None:
    delays = sweep_delays(NOW, emails=LATE)
    silent, later = await placed(database, 2)
    await hear(database, silent, examples.payment_succeeded(silent), delays=delays)
    await hear(database, later, examples.payment_succeeded(later), *TOLD, delays=delays)

    assert await sweep(database, delays) == [silent]


async def test_an_email_that_was_asked_about_is_left_alone_for_as_long_as_emails_take(database: Database) -> None:
    delays = sweep_delays(NOW, emails=LATE)
    (order,) = await placed(database, 1)
    await hear(database, order, examples.payment_succeeded(order), examples.ticket_delivered(), delays=delays)

    an_hour_later = sweep_delays(-LATE - LONG, emails=LONG)
    assert await sweep(database, an_hour_later) == [order]
    assert await sweep(database, an_hour_later) == []


def attempts_last(settings: Settings, queue: str) -> float:
    """The worst that can come: each attempt takes all of its time."""
    delays = settings.retry_delays_of(queue)
    return sum(delays) + (len(delays) + 1) * contract.queues()[queue].attempt_seconds


@pytest.mark.parametrize("queue", [CHARGE, SMS, RESTAURANT, EMAIL])
def test_by_itself_the_sweep_waits_until_nobody_can_be_trying_any_more(queue: str) -> None:
    for settings in (
        Settings(),
        Settings.model_validate({"retry_delays_seconds": (2, 600), "email_retry_delays_seconds": (7.5,)}),
    ):
        assert settings.sweep_delays.seconds({queue}) > attempts_last(settings, QUEUES[queue])


def test_by_itself_the_sweep_asks_about_a_lost_order_or_ticket_after_two_minutes_or_so() -> None:
    for missing in ({CHARGE}, {RESTAURANT, EMAIL}, {SMS}):
        assert 60 < Settings().sweep_delays.seconds(missing) < 150


def test_sweep_after_seconds_counts_for_every_queue_where_it_is_given() -> None:
    assert set(Settings(sweep_after_seconds=7).sweep_delays.by_queue.items()) == {(queue, 7) for queue in QUEUES}

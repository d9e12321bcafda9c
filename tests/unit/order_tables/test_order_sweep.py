"""Which orders the sweep re-emits: those that a later order overtook, or else one of those that may just wait."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from sqlalchemy import Connection

from order_service import store
from order_service.app import Settings
from order_service.orders import CHARGE, OrderStatus, Progress, SweepDelays, awaits, seems_lost, timeline_entry
from order_service.store import Placement, Report
from order_service.sweep.store import Sweep
from order_service.sweep.store import sweep as sweep_once
from shared import contract
from shared.events import Event
from shared.persistence.database import Database
from tests import examples
from tests.support import outbox_events

LIMIT = 100
EMAIL, SMS, PUSH, RESTAURANT = "email", "sms", "push", "restaurant"
QUEUES = {
    "charge": "payment_service.charge",
    **{name: f"notification_service.{name}" for name in (EMAIL, SMS, PUSH, RESTAURANT)},
}
LONG, NOW, LATE = 60.0, 0.0, 3600.0
EARLIER, LATER, LAST = sorted(examples.order_placed().subject for _ in range(3))
PAID = examples.payment_succeeded()
NOTIFIED = [examples.receipt_delivered(), examples.ticket_delivered()]
OPEN = set(OrderStatus) - {OrderStatus.STALLED}
WITH_PAYMENTS = (OrderStatus.PLACED, OrderStatus.CANCELLING)


def test_an_order_is_lost_once_a_later_one_was_finished() -> None:
    charged, notified = Progress(charged=LATER, notified=None), Progress(charged=None, notified=LATER)
    for status in OPEN:
        overtaken, other = (charged, notified) if status in WITH_PAYMENTS else (notified, charged)
        assert seems_lost(EARLIER, status, overtaken)
        assert not seems_lost(LAST, status, overtaken)
        assert not seems_lost(EARLIER, status, other)


@pytest.mark.parametrize("status", OrderStatus)
def test_an_order_is_open_until_every_channel_has_reported(status: OrderStatus) -> None:
    assert bool(awaits(status, [], [SMS])) is (status in OPEN)


@pytest.mark.parametrize("status", [OrderStatus.PAID, OrderStatus.CONFIRMED])
def test_a_paid_order_is_open_while_one_of_the_channels_is_silent(status: OrderStatus) -> None:
    reports = [timeline_entry(event) for event in NOTIFIED]
    for incomplete in (*combinations(reports, 0), *combinations(reports, 1)):
        assert awaits(status, incomplete, [])
    assert not awaits(status, reports, [])
    assert awaits(status, reports, [SMS, PUSH]) == {SMS, PUSH}


@pytest.mark.parametrize(
    ("status", "notices"),
    [
        (OrderStatus.DECLINED, {EMAIL: "decline", PUSH: "decline"}),
        (OrderStatus.CANCELLED, {EMAIL: "cancellation", PUSH: "cancellation"}),
        (OrderStatus.REFUNDED, {EMAIL: "refund", PUSH: "refund", "restaurant": "kitchen_stop"}),
    ],
)
def test_an_older_notice_does_not_tell_what_became_of_the_order(status: OrderStatus, notices: dict[str, str]) -> None:
    old = [timeline_entry(event) for event in NOTIFIED]
    assert awaits(status, old, [PUSH]) == notices.keys()
    new = [timeline_entry(examples.notice_delivered(*notice)) for notice in notices.items()]
    assert not awaits(status, [*old, *new], [PUSH])


def test_a_notification_that_was_given_up_is_no_longer_waited_for() -> None:
    reports = [timeline_entry(event) for event in (examples.receipt_failed(), examples.ticket_delivered())]
    assert not awaits(OrderStatus.PAID, reports, [])


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


def sweep_delays(seconds: float, *, emails: float | None = None) -> SweepDelays:
    return SweepDelays({**dict.fromkeys(QUEUES, seconds), EMAIL: seconds if emails is None else emails})


async def report(database: Database, order_id: str, *events: Event, delays: SweepDelays | None = None) -> None:
    for event in events:
        entry = timeline_entry(event.model_copy(update={"id": f"{event.id}-{order_id}"}))
        await database.write(store.track, Report(order_id, entry, delays or sweep_delays(LONG)))


async def sweep(database: Database, delays: SweepDelays | float) -> list[str]:
    sweep_of = Sweep(delays if isinstance(delays, SweepDelays) else sweep_delays(delays), LIMIT)
    return sorted(await database.write(sweep_once, sweep_of))


async def test_orders_that_a_later_one_has_overtaken_are_re_emitted_under_their_own_id(database: Database) -> None:
    first, second, third = await placed(database, 3)
    await report(database, third, PAID, *NOTIFIED)

    assert await sweep(database, NOW) == [first, second]

    events = await outbox_events(database, store.outbox)
    assert sorted(event.id for event in events) == [first, second]
    assert all(event.again for event in events)
    assert await sweep(database, LONG) == []  # they were re-emitted just now


async def test_of_orders_that_wait_while_no_order_is_finished_one_is_re_emitted(database: Database) -> None:
    orders = await placed(database, 3)
    assert await sweep(database, LONG) == orders[-1:]
    assert await sweep(database, LONG) == []


async def test_an_order_that_was_overtaken_just_now_may_still_be_under_way(database: Database) -> None:
    orders = await placed(database, 3)
    await report(database, orders[2], PAID, *NOTIFIED)
    assert await sweep(database, LONG) == orders[1:2]  # the last one, to find out


FIRST_REPORTS = {
    "nothing but the payment": ([PAID], sweep_delays(NOW), True),
    "everything": ([PAID, *NOTIFIED], sweep_delays(NOW), False),
    "all but the email, which may take an hour": (
        [PAID, examples.ticket_delivered()],
        sweep_delays(NOW, emails=LATE),
        False,
    ),
    "nothing but the payment, which may not take an hour": ([PAID], sweep_delays(NOW, emails=LATE), True),
}


@pytest.mark.parametrize(("reports", "delays", "is_re_emitted"), FIRST_REPORTS.values(), ids=FIRST_REPORTS)
async def test_an_overtaken_order_is_re_emitted_after_the_delay_of_what_it_lacks(
    database: Database, reports: list[Event], delays: SweepDelays, is_re_emitted: bool
) -> None:
    first, later = await placed(database, 2)
    await report(database, first, *reports, delays=delays)
    await report(database, later, PAID, *NOTIFIED, delays=delays)

    assert await sweep(database, delays) == ([first] if is_re_emitted else [])


async def test_a_missing_email_is_asked_about_once_in_the_time_that_emails_take(database: Database) -> None:
    (order,) = await placed(database, 1)
    delays = sweep_delays(NOW, emails=LATE)
    await report(database, order, PAID, examples.ticket_delivered(), delays=delays)
    assert await sweep(database, delays) == []

    an_hour_later = sweep_delays(-LATE - LONG, emails=LONG)
    assert await sweep(database, an_hour_later) == [order]
    assert await sweep(database, an_hour_later) == []


def attempts_last(settings: Settings, queue: str) -> float:
    """The longest case: each attempt takes all of its time."""
    delays = settings.retry_delays_of(queue)
    return sum(delays) + (len(delays) + 1) * contract.queues()[queue].attempt_seconds


@pytest.mark.parametrize("queue", [CHARGE, SMS, RESTAURANT, EMAIL])
def test_by_default_the_sweep_waits_until_no_attempt_can_follow(queue: str) -> None:
    for settings in (
        Settings(),
        Settings.model_validate({"retry_delays_seconds": (2, 600), "email_retry_delays_seconds": (7.5,)}),
    ):
        assert settings.sweep_delays.seconds({queue}) > attempts_last(settings, QUEUES[queue])


def test_by_default_the_sweep_asks_about_a_lost_order_after_two_minutes_or_so_and_about_notices_after_an_hour() -> None:
    assert 60 < Settings().sweep_delays.seconds({CHARGE}) < 150
    for missing in ({RESTAURANT, EMAIL}, {SMS}, {PUSH}):
        assert 3600 < Settings().sweep_delays.seconds(missing) < 5400


def test_sweep_after_seconds_counts_for_every_queue_where_it_is_given() -> None:
    by_queue = Settings(sweep_after_seconds=7).sweep_delays.by_queue
    assert by_queue.keys() >= QUEUES.keys()
    assert set(by_queue.values()) == {7}

"""An order is cancelled once, whatever else happens to it: its event, its status and what the sweep re-emits agree."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, Row, create_engine, select, update

from order_service import store
from order_service.cancelling.store import (
    Cancellation,
    Cancelled,
    Refused,
    Unpaid,
    cancel,
    cancel_unpaid,
    index_unpaid,
)
from order_service.orders import (
    CancellationRules,
    OrderStatus,
    SweepDelays,
    TimelineEntry,
    awaits,
    cancellation,
    status_of,
    timeline_entry,
)
from order_service.store import Placement, Report, Tracked
from order_service.sweep.store import Sweep
from order_service.sweep.store import sweep as sweep_once
from shared.events import Event, OrderCancelled, OrderPlaced, decode
from shared.ids import new_id
from shared.persistence.database import Database
from tests import examples
from tests.support import outbox_events

RULES = CancellationRules(900)
DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "push", "restaurant"), 60.0))
AT_ONCE = SweepDelays(dict.fromkeys(DELAYS.by_queue, -3600.0))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def request(order_id: str, entry: TimelineEntry | None = None, rules: CancellationRules = RULES) -> Cancellation:
    return Cancellation(order_id, entry or cancellation("customer"), None, rules, DELAYS)


@pytest.mark.parametrize("status", OrderStatus)
@pytest.mark.parametrize("age_seconds", [0, 900, 901])
def test_an_order_can_be_cancelled_in_time_unless_nothing_was_charged_and_nothing_will_be(
    status: OrderStatus, age_seconds: int
) -> None:
    why_not = RULES.why_not(status, BEGIN, BEGIN + timedelta(seconds=age_seconds))

    if status in ("cancelling", "cancelled", "refunded", "declined"):
        assert why_not
    elif status == "stalled" or age_seconds <= 900:
        assert why_not is None
    else:
        assert "until 2026-01-01 00:15:00 UTC, 900 s after" in (why_not or "")


async def placed(database: Database, orders: int = 1, age_seconds: float = 0) -> list[str]:
    at = datetime.now(UTC) - timedelta(seconds=age_seconds)
    events = [examples.order_placed().model_copy(update={"time": at}) for _ in range(orders)]
    await asyncio.gather(*(database.write(store.place, Placement(event)) for event in events))
    return [event.subject for event in events]


async def track(database: Database, event: Event) -> Tracked:
    return await database.write(store.track, Report(event.subject, timeline_entry(event), DELAYS))


async def status(database: Database, order_id: str) -> OrderStatus:
    order = await database.read(store.get, order_id)
    assert order is not None
    return order.status


async def cancellations(database: Database) -> list[OrderCancelled]:
    return [event for event in await outbox_events(database, store.outbox) if isinstance(event, OrderCancelled)]


async def test_an_order_its_cancellation_and_the_event_are_written_together(database: Database) -> None:
    (order_id,) = await placed(database)

    assert await database.write(cancel, request(order_id)) is Cancelled.NOW

    order = await database.read(store.get, order_id)
    assert order is not None
    assert order.status is OrderStatus.CANCELLING
    entry = order.timeline[-1]
    assert (entry.type, entry.detail) == ("order.cancelled.v1", {"reason": "customer"})
    (event,) = await cancellations(database)
    assert (event.id, event.time, event.subject) == (entry.event_id, entry.at, order_id)
    assert (event.data.order, event.data.reason) == (order.summary, "customer")


async def test_of_many_requests_in_one_batch_and_later_one_cancels(database: Database) -> None:
    (order_id,), unknown = await placed(database), new_id()

    together = await asyncio.gather(*(database.write(cancel, request(each)) for each in (order_id, unknown, order_id)))
    later = await database.write(cancel, request(order_id))

    assert together == [Cancelled.NOW, Cancelled.UNKNOWN_ORDER, Cancelled.EARLIER]
    assert later is Cancelled.EARLIER
    assert len(await cancellations(database)) == 1
    order = await database.read(store.get, order_id)
    assert order is not None
    assert (len(order.timeline), order.duplicates) == (2, 2)


async def test_a_refusal_writes_nothing(database: Database) -> None:
    declined, old = await placed(database, 2)
    await track(database, examples.payment_declined(declined))

    for order_id, rules in ((declined, RULES), (old, CancellationRules(0))):
        assert isinstance(await database.write(cancel, request(order_id, rules=rules)), Refused)
    assert [await status(database, each) for each in (declined, old)] == ["declined", "placed"]
    assert not await cancellations(database)

    await track(database, examples.payment_stalled(old))
    assert await database.write(cancel, request(old, rules=CancellationRules(0))) is Cancelled.NOW


async def test_replicas_cancel_each_order_once_while_reports_arrive_at_both(
    database: Database, replica: Database
) -> None:
    order_ids = await placed(database, 20)
    reports = [
        report(order_id)
        for order_id in order_ids
        for report in (examples.payment_succeeded, examples.receipt_delivered, examples.ticket_delivered)
    ]

    results = await asyncio.gather(
        *(each.write(cancel, request(order_id)) for order_id in order_ids for each in (database, replica)),
        *(track((database, replica)[number % 2], event) for number, event in enumerate(reports)),
    )

    assert results[: 2 * len(order_ids)].count(Cancelled.NOW) == len(order_ids)
    assert results[: 2 * len(order_ids)].count(Cancelled.EARLIER) == len(order_ids)
    assert sorted(event.subject for event in await cancellations(database)) == sorted(order_ids)
    for order_id in order_ids:
        order = await replica.read(store.get, order_id)
        assert order is not None
        assert (order.status, len(order.timeline)) == (OrderStatus.CANCELLING, 5)


async def test_orders_that_are_not_paid_in_time_are_cancelled_by_one_of_the_replicas(
    database: Database, replica: Database
) -> None:
    waiting, stalled, paid, declined = await placed(database, 4, age_seconds=3600)
    await placed(database)
    for event in (examples.payment_stalled(stalled), examples.payment_succeeded(paid),
                  examples.payment_declined(declined)):  # fmt: skip
        await track(database, event)
    unpaid = Unpaid(datetime.now(UTC) - timedelta(minutes=1), 100, DELAYS)
    await asyncio.gather(*(each.write(index_unpaid, None) for each in (database, replica)))

    found = await asyncio.gather(*(each.write(cancel_unpaid, unpaid) for each in (database, replica)))

    assert sorted(order_id for order_ids in found for order_id in order_ids) == sorted([waiting, stalled])
    events = await cancellations(database)
    assert {(event.subject, event.data.reason) for event in events} == {
        (waiting, "payment-timeout"), (stalled, "payment-timeout")
    }  # fmt: skip
    assert [await status(database, each) for each in (paid, declined)] == ["paid", "declined"]
    assert await database.write(cancel_unpaid, unpaid) == []


async def test_a_lost_cancellation_is_re_emitted_once_a_younger_order_was_charged(database: Database) -> None:
    """Not sooner: orders that were placed before the cancellation say nothing about its place in the queue."""
    old, charged = await placed(database, 2)
    await track(database, examples.payment_succeeded(charged))
    await database.write(cancel, request(old))
    (event,) = await cancellations(database)
    sweep = Sweep(AT_ONCE, 1)

    (younger,) = await placed(database)
    await database.write(age, old)
    assert await database.write(sweep_once, Sweep(AT_ONCE, 100)) != [old]
    await track(database, examples.payment_succeeded(younger))
    await database.write(age, old)
    assert old in await database.write(sweep_once, sweep)

    again = [each for each in await cancellations(database) if each.again]
    assert again
    assert all(each.model_copy(update={"again": None}) == event for each in again)


def age(connection: Connection, order_ids: list[str]) -> list[None]:
    """Let the sweep find it first."""
    columns = store.orders.c
    for order_id in order_ids:
        connection.execute(update(store.orders).where(columns.order_id == order_id).values(quiet_since=BEGIN))
    return [None for _ in order_ids]


@contextmanager
def transaction() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        store.metadata.create_all(connection)
        yield connection
    engine.dispose()


CHANNELS = ("email", "sms", "push", "restaurant")
REPORTS = (
    examples.payment_stalled, examples.payment_succeeded, examples.payment_declined, examples.payment_voided,
    examples.payment_refunded, examples.receipt_failed,
)  # fmt: skip
NOTICES = [
    (channel, notice)
    for channel in CHANNELS
    for notice in ("receipt", "decline", "kitchen_ticket", "cancellation", "refund", "kitchen_stop")
]


class OneOrder(RuleBasedStateMachine):
    """One order, and everything that can happen to it, in any order and any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self._transaction = transaction()
        self.connection = self._transaction.__enter__()
        self.placed = examples.order_placed(phone=examples.PHONE, push="topic")
        self.order_id = self.placed.subject
        self.events: dict[str, Event] = {}
        self.arrived: set[str] = set()
        self.cancelled = 0

    def teardown(self) -> None:
        self._transaction.__exit__(None, None, None)

    @initialize()
    def place(self) -> None:
        store.place(self.connection, [Placement(self.placed)])

    @rule(names=st.lists(st.sampled_from(range(len(REPORTS))), min_size=1, max_size=3))
    def reports_arrive(self, names: list[int]) -> None:
        self._arrive([self._event(f"report {name}", REPORTS[name](self.order_id)) for name in names])

    @rule(notices=st.lists(st.sampled_from(NOTICES), min_size=1, max_size=3))
    def notifications_arrive(self, notices: list[tuple[str, str]]) -> None:
        made = [self._event(f"{channel} {notice}", examples.notice_delivered(channel, notice, self.order_id))
                for channel, notice in notices]  # fmt: skip
        self._arrive(made)

    def _event(self, name: str, event: Event) -> Event:
        """The same each time, so that it may arrive again."""
        return self.events.setdefault(name, event)

    def _arrive(self, events: Sequence[Event]) -> None:
        expected = []
        for event in events:
            expected.append(Tracked.DUPLICATE if event.id in self.arrived else Tracked.RECORDED)
            self.arrived.add(event.id)
        reports = [Report(self.order_id, timeline_entry(event), DELAYS) for event in events]
        assert store.track(self.connection, reports) == expected

    @rule(requests=st.integers(1, 2), is_late=st.booleans())
    def the_customer_cancels(self, requests: int, is_late: bool) -> None:
        rules = CancellationRules(0 if is_late else 900)
        before = status_of(self._timeline())
        why_not = rules.why_not(before, self.placed.time, datetime.now(UTC))
        results = cancel(self.connection, [request(self.order_id, rules=rules) for _ in range(requests)])
        if self.cancelled:
            assert set(results) == {Cancelled.EARLIER}
        elif why_not:
            assert results == [Refused(why_not)] * requests
        else:
            assert results == [Cancelled.NOW, *[Cancelled.EARLIER] * (requests - 1)]
            self.cancelled += 1

    @rule()
    def the_payment_is_late(self) -> None:
        was = self._row().status
        unpaid = Unpaid(datetime.now(UTC) + timedelta(seconds=1), 10, DELAYS)
        (order_ids,) = cancel_unpaid(self.connection, [unpaid])
        assert order_ids == ([self.order_id] if was in ("placed", "stalled") else [])
        self.cancelled += len(order_ids)

    @rule()
    def it_is_swept(self) -> None:
        is_open = self._row().quiet_since is not None
        (order_ids,) = sweep_once(self.connection, [Sweep(AT_ONCE, 10)])
        assert order_ids == ([self.order_id] if is_open else [])

    @invariant()
    def the_row_says_what_the_timeline_says(self) -> None:
        row, timeline = self._row(), self._timeline()
        assert row.status == status_of(timeline)
        assert (row.quiet_since is not None) == bool(awaits(OrderStatus(row.status), timeline, ["sms", "push"]))

    @invariant()
    def there_is_one_cancellation_and_what_is_published_is_the_same_each_time(self) -> None:
        rows = self.connection.execute(select(store.outbox.table.c.body).order_by(store.outbox.table.c.id))
        first: dict[str, Event] = {}
        for event in (decode(row.body) for row in rows):
            assert isinstance(event, OrderPlaced | OrderCancelled)
            assert first.setdefault(event.type, event) == event.model_copy(update={"again": None})
        assert self.cancelled <= 1
        assert ("order.cancelled.v1" in first) == bool(self.cancelled)
        assert [entry.type for entry in self._timeline()].count("order.cancelled.v1") == self.cancelled

    def _row(self) -> Row[Any]:
        return self.connection.execute(select(store.orders)).one()

    def _timeline(self) -> list[TimelineEntry]:
        return store.timelines_of(self.connection, [self.order_id])[self.order_id]


def test_whatever_happens_in_whatever_order_status_event_and_sweep_agree() -> None:
    run_state_machine_as_test(OneOrder, settings=settings(deadline=None, max_examples=60, stateful_step_count=12))

"""Which orders the audit counts as in flight, since a message that may be theirs is on the way, and which as lost."""

from datetime import UTC, datetime

import pytest

from control_room.operations.audit.auditor import judge
from control_room.operations.audit.in_flight import counted
from control_room.operations.audit.reconciliation import OnTheWay
from control_room.operations.audit.report import AuditReport
from tests.audit_rows import (
    CHANGED_BEFORE,
    CHARGE,
    EMAIL,
    Row,
    Rows,
    charge,
    dead_letter,
    filled,
    notification,
    order,
    paid,
    payment,
    right_rows,
    row_of,
    violations,
)

KITCHEN, TRACK = "notification_service.restaurant", "order_service.track"
NOW = CHANGED_BEFORE + 60
RETRY_DELAYS = (1, 1800, 1800)
READY = {EMAIL: 3, f"{EMAIL}.retry.1s": 2, f"{EMAIL}.retry.1800s": 0, "notification_service.sms": 50}


def coming(queue: str, count: int, *, at_most: int | None = None) -> OnTheWay:
    return OnTheWay(queue, count, count, count if at_most is None else at_most, retry_seconds=60.0, attempts=4)


def audited_with(rows: Rows, *on_the_way: OnTheWay) -> AuditReport:
    with filled(rows) as database:
        database.call_waiting(on_the_way, NOW - 5, settle_seconds=60)
        return judge(database, 60)


def with_orders(*orders: Row) -> Rows:
    rows = right_rows()
    rows["orders"] += orders
    return rows


def placed_at(order_id: str, seconds_ago: float, status: str = "placed", *, took: float = 0.0) -> Row:
    """An order that was placed so long ago, and `took` so long to come to its status."""
    placed, changed = (datetime.fromtimestamp(NOW - ago, UTC).isoformat() for ago in (seconds_ago, seconds_ago - took))
    return order(order_id, status, placed_at=placed, updated_at=changed)


def test_an_order_whose_message_waits_is_in_flight_however_long() -> None:
    report = audited_with(with_orders(order("waiting", "placed")), coming(CHARGE, 1))

    assert report.is_clean, report.violations
    assert (report.in_flight, report.in_flight_orders, report.waiting) == (1, ("waiting",), {CHARGE: 1})
    assert not report.is_final


OTHER_SERVICES = "other_service.work"


@pytest.mark.parametrize(
    "elsewhere", [(), (coming(CHARGE, 0),), (coming(EMAIL, 9), coming(KITCHEN, 9)), (coming(OTHER_SERVICES, 9),)]
)
def test_an_order_without_a_message_on_its_way_is_named(elsewhere: tuple[OnTheWay, ...]) -> None:
    report = audited_with(with_orders(order("lost", "placed")), *elsewhere)
    assert violations(report) == {("one-final-state", "lost")}


def test_messages_of_a_queue_that_the_audit_does_not_know_may_be_any_orders() -> None:
    report = audited_with(right_rows(), coming(OTHER_SERVICES, 2))

    assert report.is_clean, report.violations
    assert (report.in_flight, report.waiting) == (2, {OTHER_SERVICES: 2})


def test_of_more_orders_than_messages_the_earliest_are_named() -> None:
    rows = with_orders(*(placed_at(f"order-{ago}", ago) for ago in (90, 100, 110, 120)))

    report = audited_with(rows, coming(CHARGE, 2, at_most=3))

    assert violations(report) == {("one-final-state", "order-120")}
    assert report.in_flight == 3


RETRIES_LAST = 60 + 4 * (10 + 60)
"""Retry delays, and four attempts that may each take what the later order took, and `settle_seconds`."""


@pytest.mark.parametrize(
    ("seconds_ago", "took", "named"),
    [(RETRIES_LAST + 17, 10, {("one-final-state", "early")}), (RETRIES_LAST, 10, set()), (900, 300, set())],
    ids=["overtaken", "may be retried", "later orders took long"],
)
def test_an_order_is_named_once_later_ones_have_overtaken_it(
    seconds_ago: float, took: float, named: set[tuple[str, str]]
) -> None:
    rows = with_orders(placed_at("early", seconds_ago), placed_at("later", seconds_ago - 1, "confirmed", took=took))
    rows["rows"] += paid("later")

    assert violations(audited_with(rows, coming(CHARGE, 1000))) == named


def test_a_mail_that_waits_excuses_neither_the_kitchen_nor_the_money() -> None:
    rows = with_orders(order("mailless", "paid"))
    rows["rows"] += [payment("mailless", "succeeded"), charge("mailless")]
    ticket = notification("mailless", "restaurant", "kitchen_ticket")
    on_the_way = coming(EMAIL, 1), coming(KITCHEN, 0)
    assert audited_with({**rows, "rows": [*rows["rows"], ticket]}, *on_the_way).is_clean

    rows["rows"].pop()

    assert violations(audited_with(rows, *on_the_way)) == {
        ("captured-equals-total", "mailless"), ("final-order-notified", "mailless"),
    }  # fmt: skip


def test_an_order_that_has_not_heard_of_its_payment_yet_is_in_flight() -> None:
    rows = with_orders(order("deaf", "placed"))
    rows["rows"] += [payment("deaf", "succeeded"), charge("deaf"), notification("deaf", "email", "receipt")]

    assert audited_with(rows).broken == {"one-final-state", "told-what-is-true"}
    report = audited_with(rows, coming(TRACK, 1))
    assert report.is_clean, report.violations
    assert report.in_flight == 1


@pytest.mark.parametrize(
    ("order_id", "queue", "invariant"),
    [("stalled", CHARGE, "stalled-has-dead-letter"), ("untold", EMAIL, "given-up-has-dead-letter")],
)
def test_what_was_redriven_is_in_flight_while_its_message_may_wait(order_id: str, queue: str, invariant: str) -> None:
    rows = right_rows()
    rows["dead_letters"].remove(row_of(rows, "dead_letters", order_id=order_id))

    assert violations(audited_with(rows, coming(queue, 0))) == {(invariant, order_id)}
    report = audited_with(rows, coming(queue, 1))
    assert report.is_clean, report.violations
    assert report.in_flight_orders == (order_id,)


UNPAID: list[Row] = []
PAID = [payment("open", "succeeded"), charge("open")]


@pytest.mark.parametrize("rows", [UNPAID, [payment("open", "stalled")], [payment("open", "declined")], PAID])
def test_a_cancellation_is_in_flight_while_its_message_may_wait(rows: list[Row]) -> None:
    cancelling = with_orders(order("open", "cancelling"))
    cancelling["rows"] += rows
    cancelling["dead_letters"].append(dead_letter("open", CHARGE))  # it was stalled before: that explains nothing now

    assert violations(audited_with(cancelling, coming(CHARGE, 0))) == {("one-final-state", "open")}
    report = audited_with(cancelling, coming(CHARGE, 1))
    assert report.is_clean, report.violations
    assert (report.in_flight_orders, report.waiting) == (("open",), {CHARGE: 1})


def test_a_cancellation_is_named_once_later_orders_have_overtaken_it() -> None:
    """Unless the order is paid: then its refund may have been given up, and redriven just now."""
    early = placed_at("early", RETRIES_LAST + 17, "cancelling")
    rows = with_orders(early, placed_at("later", RETRIES_LAST + 16, "confirmed", took=10))
    rows["rows"] += paid("later")
    assert violations(audited_with(rows, coming(CHARGE, 1000))) == {("one-final-state", "early")}

    rows["rows"] += paid("early")

    report = audited_with(rows, coming(CHARGE, 1000))
    assert report.is_clean, report.violations
    assert report.in_flight_orders == ("early",)


@pytest.mark.parametrize(
    ("status", "rows"),
    [
        ("cancelling", [payment("open", "voided")]),
        ("cancelling", [payment("open", "refunded"), charge("open"), charge("open", "refund")]),
        ("cancelled", [payment("open", "refunded"), charge("open"), charge("open", "refund")]),
    ],
)
def test_an_order_that_has_not_heard_of_its_void_or_refund_yet_is_in_flight(status: str, rows: list[Row]) -> None:
    heard = notification("open", "email", "cancellation")
    deaf = with_orders(order("open", status))
    deaf["rows"] += [*rows, heard]

    assert not audited_with(deaf).is_clean
    report = audited_with(deaf, coming(TRACK, 1))
    assert report.is_clean, report.violations
    assert report.in_flight_orders == ("open",)


def test_a_charge_that_was_under_way_when_it_was_voided_is_in_flight_until_it_is_refunded() -> None:
    rows = with_orders(order("open", "cancelled"))
    rows["rows"] += [payment("open", "voided"), notification("open", "email", "cancellation"), charge("open")]

    assert violations(audited_with(rows, coming(CHARGE, 0))) == {("declined-not-charged", "open")}
    report = audited_with(rows, coming(CHARGE, 1))
    assert report.is_clean, report.violations
    assert report.in_flight_orders == ("open",)


def test_a_refund_whose_notices_wait_is_in_flight() -> None:
    rows = with_orders(order("open", "refunded"))
    rows["rows"] += [payment("open", "refunded"), charge("open"), charge("open", "refund")]
    waiting = coming(EMAIL, 1), coming(KITCHEN, 1)

    assert violations(audited_with(rows, *waiting[:1])) == {("final-order-notified", "open")}
    report = audited_with(rows, *waiting)
    assert report.is_clean, report.violations


def test_an_order_whose_message_is_a_dead_letter_does_not_wait() -> None:
    """As when its consumer died over it 20 times: no service could say that it was given up."""
    rows = with_orders(order("killer", "placed"))
    rows["dead_letters"].append(dead_letter("killer", CHARGE, "delivery-limit"))

    assert violations(audited_with(rows, coming(CHARGE, 5))) == {("one-final-state", "killer")}


@pytest.mark.parametrize(
    ("unacknowledged", "limit", "at_least", "count", "at_most"),
    [
        (4, 10, 16, 16, 54),  # seven in outboxes, three in the queue, two in a retry queue; 32 may be moving
        (4, 0, 16, 16, 48),  # the consumer has just gone away
        (None, 10, 12, 22, 54),  # the broker has not counted what consumers hold: after a restart, or ever
        (None, 0, 12, 12, 44),
    ],
)
def test_messages_in_outboxes_queues_and_hands_are_on_the_way(
    unacknowledged: int | None, limit: int, at_least: int, count: int, at_most: int
) -> None:
    found = counted(EMAIL, 7, READY, unacknowledged, limit, RETRY_DELAYS)
    assert (found.at_least, found.counted, found.at_most) == (at_least, count, at_most)


@pytest.mark.parametrize(
    ("delays", "lasts", "attempts"), [(RETRY_DELAYS, 3601, 4), ((1, 5, 30), 2 * 1801, 5)], ids=["known", "others"]
)
def test_retries_last_as_long_as_their_delays_together(delays: tuple[float, ...], lasts: float, attempts: int) -> None:
    found = counted(EMAIL, 7, READY, 4, 10, delays)
    assert (found.retry_seconds, found.attempts) == (lasts, attempts)

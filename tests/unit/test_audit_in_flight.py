"""Which orders the audit spares, since a message that may be theirs is on the way, and which it calls lost."""

from datetime import UTC, datetime
from typing import Any

import pytest

from control_room.operations.audit.auditor import _spare_what_waits, judge
from control_room.operations.audit.reconciliation import OnTheWay
from control_room.operations.audit.report import AuditReport
from tests.audit_rows import NOW, Rows, charge, filled, letter, order, payment, remove, right_rows, told


def coming(queue: str, counted: int, *, at_most: int | None = None, retry_seconds: float = 60.0) -> OnTheWay:
    most = counted if at_most is None else at_most
    return OnTheWay(queue, counted, most, retry_seconds, attempts=4)


def audited_with(rows: Rows, *on_the_way: OnTheWay) -> AuditReport:
    with filled(rows) as kept:
        _spare_what_waits(kept, on_the_way, NOW, settle_seconds=60)
        return judge(kept, 60)


def placed_at(order_id: str, seconds_ago: float, status: str = "placed", *, took: float = 0.0) -> dict[str, Any]:
    """An order that was placed so long ago, and `took` so long to come to its status."""
    placed, changed = (datetime.fromtimestamp(NOW - ago, UTC).isoformat() for ago in (seconds_ago, seconds_ago - took))
    return {**order(order_id, status), "placed_at": placed, "updated_at": changed}


def violations(report: AuditReport) -> list[tuple[str, str]]:
    return [(each.invariant, each.subject) for each in report.violations]


CHARGE, EMAIL, KITCHEN = "payment_service.charge", "notification_service.email", "notification_service.restaurant"


def test_an_order_whose_message_waits_is_in_flight_however_long() -> None:
    rows = right_rows()
    rows["orders"].append(order("waiting", "placed"))

    report = audited_with(rows, coming(CHARGE, 1))

    assert report.is_clean, report.violations
    assert (report.in_flight, report.in_flight_orders, report.waiting) == (1, ("waiting",), {CHARGE: 1})
    assert not report.is_final


@pytest.mark.parametrize("elsewhere", [(), (coming(CHARGE, 0),), (coming(EMAIL, 9), coming(KITCHEN, 9))])
def test_an_order_without_a_message_on_its_way_is_named(elsewhere: tuple[OnTheWay, ...]) -> None:
    rows = right_rows()
    rows["orders"].append(order("lost", "placed"))

    assert violations(audited_with(rows, *elsewhere)) == [("one-final-state", "lost")]


def test_of_more_orders_than_messages_the_earliest_are_named() -> None:
    rows = right_rows()
    rows["orders"] += [placed_at(f"order-{ago}", ago) for ago in (90, 100, 110, 120)]

    report = audited_with(rows, coming(CHARGE, 2, at_most=3))

    assert violations(report) == [("one-final-state", "order-120")]
    assert report.in_flight == 3


def later_orders(seconds_ago: float, took: float) -> Rows:
    """Those of `right_rows`, one that waits, and one that was placed a second after it and is done."""
    rows = right_rows()
    rows["orders"] += [
        placed_at("early", seconds_ago), placed_at("later", seconds_ago - 1, "confirmed", took=took)
    ]  # fmt: skip
    rows["books"] += [
        payment("later", "succeeded"), charge("later"), told("later", "email", "receipt"),
        told("later", "restaurant", "kitchen_ticket"),
    ]  # fmt: skip
    return rows


def test_an_order_that_was_passed_by_long_ago_is_named_though_the_queue_is_never_empty() -> None:
    """Retries may last 60 s; four attempts may each take what the later order took, and what counts as just now."""
    lasts = 60 + 4 * (10 + 60)

    assert violations(audited_with(later_orders(lasts + 17, took=10), coming(CHARGE, 1000))) == [
        ("one-final-state", "early")
    ]
    assert audited_with(later_orders(lasts, took=10), coming(CHARGE, 1000)).is_clean


def test_where_later_orders_took_long_an_early_one_may_as_well() -> None:
    assert audited_with(later_orders(900, took=300), coming(CHARGE, 1000)).is_clean


def test_a_mail_that_waits_excuses_neither_the_kitchen_nor_the_money() -> None:
    rows = right_rows()
    rows["orders"].append(order("mailless", "paid"))
    rows["books"] += [
        payment("mailless", "succeeded"),
        charge("mailless"),
        told("mailless", "restaurant", "kitchen_ticket"),
    ]
    assert audited_with(rows, coming(EMAIL, 1), coming(KITCHEN, 0)).is_clean

    remove(rows, "books", order_id="mailless", channel="restaurant")
    remove(rows, "books", order_id="mailless", kind="charge")

    report = audited_with(rows, coming(EMAIL, 1), coming(KITCHEN, 0))
    assert set(violations(report)) == {("captured-equals-total", "mailless"), ("final-order-notified", "mailless")}
    assert [each.what for each in report.violations if each.invariant == "final-order-notified"] == [
        "no kitchen_ticket by restaurant"
    ]


def test_an_order_that_has_not_heard_of_its_payment_yet_is_in_flight() -> None:
    rows = right_rows()
    rows["orders"].append(order("deaf", "placed"))
    rows["books"] += [payment("deaf", "succeeded"), charge("deaf"), told("deaf", "email", "receipt")]

    assert {"one-final-state", "told-what-is-true"} == audited_with(rows).broken
    report = audited_with(rows, coming("order_service.track", 1))
    assert report.is_clean, report.violations
    assert report.in_flight == 1


@pytest.mark.parametrize(
    ("order_id", "queue", "invariant"),
    [("stalled", CHARGE, "stalled-has-dead-letter"), ("untold", EMAIL, "given-up-has-dead-letter")],
)
def test_what_was_sent_back_is_in_flight_while_its_message_may_wait(order_id: str, queue: str, invariant: str) -> None:
    rows = right_rows()
    remove(rows, "letters", order_id=order_id)

    assert violations(audited_with(rows, coming(queue, 0))) == [(invariant, order_id)]
    report = audited_with(rows, coming(queue, 1))
    assert report.is_clean, report.violations
    assert report.in_flight_orders == (order_id,)


def test_an_order_whose_message_is_a_dead_letter_does_not_wait() -> None:
    """As when its consumer died over it 20 times: no service could say that it was given up."""
    rows = right_rows()
    rows["orders"].append(order("killer", "placed"))
    rows["letters"].append(letter("killer", CHARGE, "delivery-limit"))

    assert violations(audited_with(rows, coming(CHARGE, 5))) == [("one-final-state", "killer")]

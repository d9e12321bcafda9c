"""Each invariant goes red for what it is there for, and only that one; books that agree break none."""

from collections.abc import Callable

import pytest

from control_room.operations.audit.auditor import judge
from control_room.operations.audit.invariants import INVARIANTS
from control_room.operations.audit.reconciliation import books
from tests.audit_rows import (
    CHANGED_BEFORE,
    EUR,
    JUST_NOW,
    OTHER,
    Rows,
    about,
    audited,
    change,
    charge,
    double,
    letter,
    order,
    payment,
    remove,
    right_rows,
    told,
)

Spoil = Callable[[Rows], object]
SPOILS: list[tuple[Spoil, str, str]] = [
    (lambda rows: rows["accepted"].append({"order_id": "lost"}), "accepted-order-exists", "lost"),
    (lambda rows: rows["books"].append(payment("ghost", "declined")), "belongs-to-an-order", "ghost"),
    (lambda rows: rows["books"].append(charge("ghost")), "belongs-to-an-order", "ghost"),
    (lambda rows: rows["books"].append(told("ghost", "sms", "receipt")), "belongs-to-an-order", "ghost"),
    (lambda rows: rows["orders"].append(order("open", "placed")), "one-final-state", "open"),
    (lambda rows: double(rows, "orders", order_id="declined"), "one-final-state", "declined"),
    (
        lambda rows: remove(rows, "books", order_id="confirmed", kind="charge"), "captured-equals-total", "confirmed"
    ),
    (
        lambda rows: change(rows, "books", {"amount": OTHER}, order_id="confirmed", kind="charge"),
        "captured-equals-total", "confirmed",
    ),
    (
        lambda rows: change(rows, "books", {"amount": {**EUR, "currency": "USD"}}, order_id="confirmed", kind="charge"),
        "captured-equals-total", "confirmed",
    ),
    (lambda rows: rows["books"].append(charge("untold", "refund")), "captured-equals-total", "untold"),
    (lambda rows: remove(rows, "books", order_id="refunded", type="refund"), "captured-equals-total", "refunded"),
    (lambda rows: rows["books"].append(charge("declined")), "declined-not-charged", "declined"),
    (lambda rows: rows["books"].append(charge("cancelled")), "declined-not-charged", "cancelled"),
    (
        lambda rows: change(rows, "books", {"status": "declined"}, order_id="confirmed", kind="payment"),
        "payment-agrees", "confirmed",
    ),
    (lambda rows: remove(rows, "books", order_id="declined", kind="payment"), "payment-agrees", "declined"),
    (lambda rows: double(rows, "books", order_id="stalled", kind="payment"), "payment-agrees", "stalled"),
    (lambda rows: rows["books"].append(payment("cancelled", "succeeded")), "payment-agrees", "cancelled"),
    (
        lambda rows: change(rows, "books", {"amount": OTHER}, order_id="confirmed", kind="payment"),
        "payment-agrees", "confirmed",
    ),
    (lambda rows: remove(rows, "books", order_id="confirmed", channel="sms"), "final-order-notified", "confirmed"),
    (
        lambda rows: remove(rows, "books", order_id="confirmed", channel="restaurant"),
        "final-order-notified", "confirmed",
    ),
    (lambda rows: remove(rows, "books", order_id="declined", channel="email"), "final-order-notified", "declined"),
    (lambda rows: double(rows, "books", order_id="confirmed", channel="email"), "notified-once", "confirmed"),
    (lambda rows: rows["books"].append(told("declined", "sms", "receipt")), "told-what-is-true", "declined"),
    (lambda rows: rows["books"].append(told("confirmed", "email", "decline")), "told-what-is-true", "confirmed"),
    (lambda rows: remove(rows, "letters", order_id="stalled"), "stalled-has-dead-letter", "stalled"),
    (lambda rows: remove(rows, "letters", order_id="untold"), "given-up-has-dead-letter", "untold"),
    (
        lambda rows: change(rows, "letters", {"queue": "notification_service.sms"}, order_id="stalled"),
        "stalled-has-dead-letter", "stalled",
    ),
    (lambda rows: change(rows, "letters", {"reason": ""}, order_id="stalled"), "dead-letter-has-reason", "stalled"),
    (lambda rows: change(rows, "letters", {"reason": ""}, order_id=""), "dead-letter-has-reason", "m-1"),
    (
        lambda rows: rows["letters"].append(letter("declined", "payment_service.charge")),
        "dead-letter-belongs", "declined",
    ),
    (
        lambda rows: rows["letters"].append(letter("confirmed", "notification_service.sms")),
        "dead-letter-belongs", "confirmed",
    ),
]  # fmt: skip


def test_books_that_agree_break_nothing() -> None:
    report = audited(right_rows())

    assert report.is_clean, report.violations
    assert (report.counts["orders"], report.counts["dead_letters"], report.in_flight) == (6, 3, 0)


@pytest.mark.parametrize(("spoil", "invariant", "subject"), SPOILS, ids=[f"{n}-{it[1]}" for n, it in enumerate(SPOILS)])
def test_a_fault_in_the_books_is_named_with_its_order(spoil: Spoil, invariant: str, subject: str) -> None:
    rows = right_rows()
    spoil(rows)

    report = audited(rows)

    assert not report.is_clean
    assert (invariant, subject) in {(each.invariant, each.subject) for each in report.violations}


def test_two_charges_of_an_order_are_named() -> None:
    rows = right_rows()
    double(rows, "books", order_id="confirmed", kind="charge")

    report = audited(rows)

    assert report.broken == {"charged-once", "captured-equals-total"}
    (evidence,) = [each.evidence for each in report.violations if each.invariant == "charged-once"]
    assert evidence["gateway"] == "charge 2150 EUR, charge 2150 EUR"
    assert evidence["order_service"] == "confirmed 2150 EUR"


def test_every_invariant_has_a_test_that_breaks_it() -> None:
    broken = {invariant for _, invariant, _ in SPOILS} | {"charged-once"}

    assert broken | {"outboxes-empty", "queues-empty"} == {invariant.name for invariant in INVARIANTS}


def test_what_outboxes_and_queues_hold_is_named() -> None:
    with books(CHANGED_BEFORE) as kept:
        kept.add_leftover("outboxes-empty", "order_service", "3 events are not published")
        kept.add_leftover("queues-empty", "order_service.track", "1 messages wait in it")
        report = judge(kept, 60)

    assert [(each.invariant, each.subject) for each in report.violations] == [
        ("outboxes-empty", "order_service"),
        ("queues-empty", "order_service.track"),
    ]


def test_a_young_order_is_in_flight_and_not_judged() -> None:
    rows = right_rows()
    rows["orders"].append({**order("young", "placed"), "updated_at": JUST_NOW})

    report = audited(rows)

    assert report.is_clean, report.violations
    assert (report.in_flight, report.in_flight_orders) == (1, ("young",))
    assert {check.name for check in report.checks if check.not_judged} == {"outboxes-empty", "queues-empty"}


def test_an_order_that_moved_between_the_two_looks_is_in_flight() -> None:
    rows = right_rows()
    first = [{**row, "status": "placed"} if row["order_id"] == "confirmed" else row for row in rows["orders"]]
    rows["books"] = [row for row in rows["books"] if row["order_id"] != "confirmed"]

    report = audited(rows, first)

    assert report.is_clean, report.violations
    assert report.in_flight_orders == ("confirmed",)


def test_an_order_placed_between_the_two_looks_is_in_flight() -> None:
    rows = right_rows()
    first = list(rows["orders"])
    rows["orders"].append(order("new", "placed"))

    assert audited(rows, first).in_flight_orders == ("new",)


def test_an_order_that_vanished_between_the_two_looks_is_named() -> None:
    rows = right_rows()

    report = audited(rows, [*rows["orders"], order("gone", "placed")])

    assert [(each.invariant, each.subject) for each in report.violations] == [("accepted-order-exists", "gone")]


def test_a_dead_letter_discarded_on_purpose_still_explains_its_order() -> None:
    rows = right_rows()
    rows["discards"].append(about(rows, "letters", order_id="stalled"))
    remove(rows, "letters", order_id="stalled")

    assert audited(rows).is_clean


def test_a_receipt_given_up_needs_another_one_to_confirm_its_order() -> None:
    rows = right_rows()
    change(rows, "orders", {"status": "confirmed"}, order_id="untold")

    report = audited(rows)

    assert [(each.invariant, each.what) for each in report.violations] == [
        ("final-order-notified", "confirmed, and no receipt was delivered")
    ]


def test_of_many_violations_all_are_counted_and_some_are_told() -> None:
    rows = right_rows()
    rows["orders"] += [order(f"open-{number}", "placed") for number in range(250)]

    report = audited(rows)

    assert next(check.violations for check in report.checks if check.name == "one-final-state") == 250
    assert len(report.violations) == 100


def test_only_the_orders_that_are_asked_for_are_looked_at() -> None:
    with books(CHANGED_BEFORE, frozenset({"mine"})) as kept:
        kept.last_orders([order("mine", "placed"), order("other", "placed")])

        assert kept.counts()["orders"] == 1

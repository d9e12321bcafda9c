"""Each invariant is broken by what it is there for, and only that one; rows that agree break none."""

from collections.abc import Callable
from typing import Any

import pytest

from control_room.operations.audit.auditor import judge
from control_room.operations.audit.invariants import INVARIANTS
from control_room.operations.audit.reconciliation import reconciliation_database
from control_room.operations.audit.report import money_lines
from tests.audit_rows import (
    CHANGED_BEFORE,
    CHARGE,
    EMAIL,
    EUR,
    JUST_NOW,
    LONG_AGO,
    Row,
    Rows,
    audited,
    charge,
    dead_letter,
    filled,
    notification,
    order,
    payment,
    points,
    right_rows,
    row_of,
    violations,
)

Spoil = Callable[[Rows], Any]
SMS = "notification_service.sms"
LATER = "2026-01-01T00:03:00Z"
ANOTHER_AMOUNT = {"amount": {"amount_minor": 2151, "currency": "EUR"}}


def added(part: str, row: Row) -> Spoil:
    return lambda rows: rows[part].append(row)


def removed(part: str, **values: str) -> Spoil:
    return lambda rows: rows[part].remove(row_of(rows, part, **values))


def doubled(part: str, **values: str) -> Spoil:
    return lambda rows: rows[part].append(dict(row_of(rows, part, **values)))


def changed(part: str, to: Row, **values: str) -> Spoil:
    return lambda rows: row_of(rows, part, **values).update(to)


SPOILS: list[tuple[str, str, Spoil]] = [
    ("accepted-order-exists", "lost", added("accepted", {"order_id": "lost"})),
    ("cancellation-holds", "confirmed", added("called_off", {"order_id": "confirmed"})),
    ("cancellation-holds", "declined", added("called_off", {"order_id": "declined"})),
    ("belongs-to-an-order", "ghost", added("rows", payment("ghost", "declined"))),
    ("belongs-to-an-order", "ghost", added("rows", charge("ghost"))),
    ("belongs-to-an-order", "ghost", added("rows", notification("ghost", "sms", "receipt"))),
    ("belongs-to-an-order", "ghost", added("rows", points("ghost"))),
    ("one-final-state", "open", added("orders", order("open", "placed"))),
    ("one-final-state", "cancelling", removed("dead_letters", order_id="cancelling")),
    ("one-final-state", "cancelling", changed("dead_letters", {"event": "order.placed"}, order_id="cancelling")),
    ("one-final-state", "declined", doubled("orders", order_id="declined")),
    ("charged-once", "confirmed", doubled("rows", order_id="confirmed", kind="charge")),
    ("refunded-once", "refunded", doubled("rows", order_id="refunded", type="refund")),
    ("refunded-once", "refunded", removed("rows", order_id="refunded", type="charge")),
    ("captured-equals-total", "confirmed", removed("rows", order_id="confirmed", kind="charge")),
    ("captured-equals-total", "confirmed", changed("rows", ANOTHER_AMOUNT, order_id="confirmed", kind="charge")),
    (
        "captured-equals-total", "confirmed",
        changed("rows", {"amount": {**EUR, "currency": "USD"}}, order_id="confirmed", kind="charge"),
    ),
    ("captured-equals-total", "untold", added("rows", charge("untold", "refund"))),
    ("captured-equals-total", "confirmed", added("rows", charge("confirmed", "refund"))),
    ("captured-equals-total", "refunded", removed("rows", order_id="refunded", type="refund")),
    ("captured-equals-total", "refunded", changed("rows", ANOTHER_AMOUNT, order_id="refunded", type="refund")),
    ("captured-equals-total", "cancelling", changed("rows", ANOTHER_AMOUNT, order_id="cancelling", type="charge")),
    ("captured-equals-total", "stalled", added("rows", {**charge("stalled"), **ANOTHER_AMOUNT})),
    ("declined-not-charged", "declined", added("rows", charge("declined"))),
    ("declined-not-charged", "cancelled", added("rows", charge("cancelled"))),
    ("payment-agrees", "confirmed", changed("rows", {"status": "declined"}, order_id="confirmed", kind="payment")),
    ("payment-agrees", "declined", removed("rows", order_id="declined", kind="payment")),
    ("payment-agrees", "stalled", doubled("rows", order_id="stalled", kind="payment")),
    ("payment-agrees", "cancelled", changed("rows", {"status": "succeeded"}, order_id="cancelled", kind="payment")),
    ("payment-agrees", "cancelled", removed("rows", order_id="cancelled", kind="payment")),
    ("payment-agrees", "refunded", changed("rows", {"status": "succeeded"}, order_id="refunded", kind="payment")),
    ("payment-agrees", "cancelling", changed("rows", {"status": "refunded"}, order_id="cancelling", kind="payment")),
    ("payment-agrees", "confirmed", changed("rows", ANOTHER_AMOUNT, order_id="confirmed", kind="payment")),
    ("final-order-notified", "confirmed", removed("rows", order_id="confirmed", channel="sms")),
    ("final-order-notified", "confirmed", removed("rows", order_id="confirmed", channel="restaurant")),
    ("final-order-notified", "declined", removed("rows", order_id="declined", channel="email")),
    ("final-order-notified", "refunded", removed("rows", order_id="refunded", notice="refund")),
    ("final-order-notified", "refunded", removed("rows", order_id="refunded", notice="kitchen_stop")),
    ("final-order-notified", "refunded", changed("orders", {"wants_sms": True}, order_id="refunded")),
    ("final-order-notified", "cancelled", removed("rows", order_id="cancelled", notice="cancellation")),
    ("final-order-notified", "moot", removed("rows", order_id="moot", channel="push")),
    ("final-order-notified", "untold", changed("orders", {"status": "confirmed"}, order_id="untold")),
    ("notified-once", "confirmed", doubled("rows", order_id="confirmed", channel="email")),
    ("told-what-is-true", "declined", added("rows", notification("declined", "sms", "receipt"))),
    ("told-what-is-true", "confirmed", added("rows", notification("confirmed", "email", "decline"))),
    ("told-what-is-true", "confirmed", added("rows", notification("confirmed", "sms", "refund"))),
    ("told-what-is-true", "cancelled", added("rows", notification("cancelled", "restaurant", "kitchen_ticket"))),
    ("told-what-is-true", "cancelling", added("rows", notification("cancelling", "email", "cancellation"))),
    ("told-what-is-true", "stalled", added("rows", notification("stalled", "email", "cancellation"))),
    ("newest-told-last", "refunded", changed("rows", {"at": LATER}, order_id="refunded", notice="receipt")),
    ("newest-told-last", "refunded", changed("rows", {"at": LATER}, order_id="refunded", notice="kitchen_ticket")),
    ("newest-told-last", "refunded", added("rows", notification("refunded", "email", "cancellation", at=LATER))),
    ("recorded-once", "confirmed", doubled("rows", kind="points", key="bonus")),
    ("stalled-has-dead-letter", "stalled", removed("dead_letters", order_id="stalled")),
    ("stalled-has-dead-letter", "stalled", changed("dead_letters", {"queue": SMS}, order_id="stalled")),
    ("given-up-has-dead-letter", "untold", removed("dead_letters", order_id="untold")),
    ("dead-letter-has-reason", "stalled", changed("dead_letters", {"reason": ""}, order_id="stalled")),
    ("dead-letter-has-reason", "m-1", changed("dead_letters", {"reason": ""}, order_id="")),
    (
        "dead-letter-belongs", "refunded",
        added("dead_letters", dead_letter("refunded", EMAIL, event="payment.refunded")),
    ),
    ("dead-letter-belongs", "declined", added("dead_letters", dead_letter("declined", CHARGE))),
    ("dead-letter-belongs", "confirmed", added("dead_letters", dead_letter("confirmed", SMS))),
]  # fmt: skip


def test_rows_that_agree_break_nothing() -> None:
    report = audited(right_rows())

    assert report.is_clean, report.violations
    assert (report.counts["orders"], report.counts["dead_letters"], report.in_flight) == (8, 6, 0)
    assert report.counts["points"] == 2


@pytest.mark.parametrize(("invariant", "subject", "spoil"), SPOILS, ids=[f"{n}-{it[0]}" for n, it in enumerate(SPOILS)])
def test_a_fault_is_named_with_its_order(invariant: str, subject: str, spoil: Spoil) -> None:
    rows = right_rows()
    spoil(rows)

    report = audited(rows)

    assert not report.is_clean
    assert (invariant, subject) in violations(report)


def test_every_invariant_has_a_test_that_breaks_it() -> None:
    broken = {invariant for invariant, _, _ in SPOILS}
    assert broken | {"outboxes-empty", "queues-empty"} == {invariant.name for invariant in INVARIANTS}


def test_a_violation_carries_what_each_service_says() -> None:
    rows = right_rows()
    doubled("rows", order_id="confirmed", kind="charge")(rows)

    report = audited(rows)

    assert report.broken == {"charged-once", "captured-equals-total"}
    evidence = report.violations[0].evidence
    assert evidence["gateway"] == "charge 2150 EUR, charge 2150 EUR"
    assert evidence["order_service"] == "confirmed 2150 EUR"
    assert evidence["a service"] == "points, points bonus"


def test_what_outboxes_and_queues_hold_is_named() -> None:
    leftovers = {("outboxes-empty", "order_service"), ("queues-empty", "order_service.track")}
    with reconciliation_database(CHANGED_BEFORE) as database:
        for invariant, subject in leftovers:
            database.add_leftover(invariant, subject, "1 messages wait in it")
        assert violations(judge(database, 60)) == leftovers


def test_an_order_that_changed_just_now_is_in_flight_and_not_judged() -> None:
    rows = right_rows()
    rows["orders"].append(order("young", "placed", updated_at=JUST_NOW))

    report = audited(rows)

    assert report.is_clean, report.violations
    assert (report.in_flight, report.in_flight_orders) == (1, ("young",))
    assert {check.name for check in report.checks if check.not_judged} == {"outboxes-empty", "queues-empty"}


def test_an_order_that_changed_or_appeared_between_the_two_readings_is_in_flight() -> None:
    rows = right_rows()
    first = [{**row, "status": "placed"} if row["order_id"] == "confirmed" else row for row in rows["orders"]]
    rows["rows"] = [row for row in rows["rows"] if row["order_id"] != "confirmed"]
    rows["orders"].append(order("new", "placed"))

    report = audited(rows, first)

    assert report.is_clean, report.violations
    assert report.in_flight_orders == ("confirmed", "new")


def test_an_order_that_vanished_between_the_two_readings_is_named() -> None:
    rows = right_rows()
    report = audited(rows, [*rows["orders"], order("gone", "placed")])
    assert violations(report) == {("accepted-order-exists", "gone")}


def test_a_dead_letter_discarded_on_purpose_still_explains_its_order() -> None:
    rows = right_rows()
    rows["discards"].append(row_of(rows, "dead_letters", order_id="stalled"))
    removed("dead_letters", order_id="stalled")(rows)

    assert audited(rows).is_clean


def test_of_many_violations_all_are_counted_and_some_are_reported() -> None:
    rows = right_rows()
    rows["orders"] += [order(f"open-{number}", "placed") for number in range(250)]

    report = audited(rows)

    assert next(check.violations for check in report.checks if check.name == "one-final-state") == 250
    assert len(report.violations) == 100


def test_only_the_orders_that_are_asked_for_are_looked_at() -> None:
    with reconciliation_database(CHANGED_BEFORE, frozenset({"mine"})) as database:
        database.last_orders([order("mine", "placed"), order("other", "placed")])
        assert database.counts()["orders"] == 1


def with_rows(*more: Row, dead_letters: tuple[Row, ...] = ()) -> Rows:
    rows = right_rows()
    rows["rows"] += more
    rows["dead_letters"] += dead_letters
    return rows


@pytest.mark.parametrize(
    "rows",
    [
        # Given up before the refund; a redrive finds the later truth told, and sends nothing: the record stays.
        with_rows(notification("refunded", "sms", "receipt", "failed")),
        with_rows(dead_letters=(dead_letter("refunded", EMAIL),)),
        # The sweep re-emits a cancellation that was given up, so that there may be several dead letters of it.
        with_rows(dead_letters=(dead_letter("cancelling", CHARGE, event="order.cancelled"),)),
        with_rows(dead_letters=(dead_letter("refunded", CHARGE, event="order.cancelled"),)),
        # It was declined while its cancellation was on the way.
        with_rows(notification("cancelled", "email", "decline", at=LONG_AGO)),
        # The charge was under way when it was voided.
        with_rows(notification("refunded", "email", "cancellation", at="2026-01-01T00:01:30Z")),
        with_rows(charge("cancelled"), dead_letters=(dead_letter("cancelled", CHARGE),)),
        # The gateway's answers were lost: to each attempt at the charge; to each attempt at the refund.
        with_rows(charge("stalled")),
        with_rows(charge("cancelling", "refund")),
    ],
)
def test_what_a_cancellation_may_leave_behind_breaks_nothing(rows: Rows) -> None:
    report = audited(rows)
    assert report.is_clean, report.violations


def test_pruned_orders_are_left_out_whatever_is_missing_of_them() -> None:
    rows = right_rows()
    rows["orders"] = [row for row in rows["orders"] if row["order_id"] != "confirmed"]
    rows["rows"] = [row for row in rows["rows"] if (row["kind"], row["order_id"]) != ("payment", "cancelled")]
    assert {"confirmed", "cancelled"} <= {subject for _, subject in violations(audited(rows))}

    with filled(rows) as database:
        database.leave_out("d")  # all whose ids begin with "c"
        report = judge(database, 60)

    assert report.is_clean, report.violations
    assert report.counts["orders"] == len([row for row in rows["orders"] if row["order_id"] >= "d"])


@pytest.mark.parametrize("at", ["2025-12-31T23:00:00Z", "2999-01-01T00:00:00Z"])
def test_the_time_of_a_clock_that_is_wrong_is_no_evidence_of_an_older_truth(at: str) -> None:
    """An hour behind, when the refund was told; far ahead, when the receipt was."""
    rows, notice = right_rows(), "refund" if at < LONG_AGO else "receipt"
    changed("rows", {"at": at}, order_id="refunded", notice=notice)(rows)
    assert audited(rows).is_clean


def test_what_was_captured_and_refunded_is_added_up_beside_what_the_paid_orders_cost() -> None:
    report = audited(right_rows())

    assert report.money == {"EUR": {"charged": 4 * 2150, "refunded": 2150, "due": 2 * 2150}}
    assert money_lines(report.money) == [
        "Captured minus refunded: 86.00 - 21.50 = 64.50 EUR; the paid orders cost 43.00 EUR."
    ]
    assert (report.statuses["cancelled"], report.statuses["refunded"], report.counts["refunds"]) == (2, 1, 1)

"""Each invariant goes red for what it is there for, and only that one; books that agree break none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from control_room.audit.auditor import _spare_what_waits, judge
from control_room.audit.invariants.store import INVARIANTS
from control_room.audit.report import AuditReport
from control_room.audit.store import Books, OnTheWay, books

EUR = {"amount_minor": 2150, "currency": "EUR"}
OTHER = {"amount_minor": 2151, "currency": "EUR"}
LONG_AGO, JUST_NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00.5Z"
CHANGED_BEFORE = 1767312000.0  # the start of 2026-01-02
NOW = CHANGED_BEFORE + 60

Rows = dict[str, list[dict[str, Any]]]


def order(order_id: str, status: str, *, wants_sms: bool = False) -> dict[str, Any]:
    return {"order_id": order_id, "status": status, "total": EUR, "updated_at": LONG_AGO, "wants_sms": wants_sms}


def payment(order_id: str, status: str) -> dict[str, Any]:
    return {"kind": "payment", "order_id": order_id, "status": status, "amount": EUR}


def charge(order_id: str, kind: str = "charge") -> dict[str, Any]:
    return {"kind": "charge", "order_id": order_id, "charge_id": "1", "type": kind, "amount": EUR}


def told(order_id: str, channel: str, notice: str, status: str = "delivered") -> dict[str, Any]:
    return {"kind": "notification", "order_id": order_id, "channel": channel, "notice": notice, "status": status}


def letter(order_id: str, queue: str, reason: str = "attempts-exhausted") -> dict[str, Any]:
    return {"order_id": order_id, "queue": queue, "id": "m-1", "reason": reason, "error": "", "parked_at": 1.0}


def right_rows() -> Rows:
    """One order of each kind, and a piece of poison."""
    return {
        "accepted": [{"order_id": order_id} for order_id in ("confirmed", "declined", "stalled")],
        "orders": [
            order("confirmed", "confirmed", wants_sms=True),
            order("declined", "declined"),
            order("stalled", "stalled"),
            order("untold", "paid"),
            order("refunded", "refunded"),
            order("cancelled", "cancelled"),
        ],
        "books": [
            payment("confirmed", "succeeded"), charge("confirmed"),
            told("confirmed", "email", "receipt"), told("confirmed", "sms", "receipt"),
            told("confirmed", "restaurant", "kitchen_ticket"),
            payment("declined", "declined"), told("declined", "email", "decline"),
            payment("stalled", "stalled"),
            payment("untold", "succeeded"), charge("untold"), told("untold", "email", "receipt", "failed"),
            told("untold", "restaurant", "kitchen_ticket"),
            payment("refunded", "succeeded"), charge("refunded"), charge("refunded", "refund"),
        ],
        "letters": [
            letter("stalled", "payment_service.charge"),
            letter("untold", "notification_service.email"),
            letter("", "payment_service.charge", "not-json"),
        ],
        "discards": [],
    }  # fmt: skip


def audited(rows: Rows, first: list[dict[str, Any]] | None = None) -> AuditReport:
    with filled(rows, first) as kept:
        return judge(kept, 60)


@contextmanager
def filled(rows: Rows, first: list[dict[str, Any]] | None = None) -> Iterator[Books]:
    with books(CHANGED_BEFORE) as kept:
        kept.accept(row["order_id"] for row in rows["accepted"])
        kept.first_orders(first if first is not None else rows["orders"])
        kept.add(rows["books"])
        kept.add_letters(rows["letters"])
        kept.add_letters(rows["discards"], discarded=True)
        kept.last_orders(rows["orders"])
        yield kept


def about(rows: Rows, part: str, **wanted: str) -> dict[str, Any]:
    return next(row for row in rows[part] if all(row.get(name) == value for name, value in wanted.items()))


def remove(rows: Rows, part: str, **wanted: str) -> None:
    rows[part].remove(about(rows, part, **wanted))


def double(rows: Rows, part: str, **wanted: str) -> None:
    rows[part].append(dict(about(rows, part, **wanted)))


def change(rows: Rows, part: str, to: dict[str, Any], **wanted: str) -> None:
    about(rows, part, **wanted).update(to)


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

"""The tour's look into the books: it must go red for each way in which they can be wrong."""

from collections.abc import Callable
from typing import Any

import pytest

from control_room.tour.reconciliation import Books, Expectation, problems

EUR = {"amount_minor": 2150, "currency": "EUR"}
PAID = Expectation("paid-order", "confirmed", 1, EUR)
DECLINED = Expectation("declined-order", "declined", 0, EUR)
STALLED = Expectation("stalled-order", "stalled", 0, EUR)
ALL = (PAID, DECLINED, STALLED)

Row = dict[str, Any]


def right_rows() -> list[Row]:
    return [
        {"kind": "order", "order_id": "paid-order", "status": "confirmed", "total": EUR},
        {"kind": "order", "order_id": "declined-order", "status": "declined", "total": EUR},
        {"kind": "order", "order_id": "stalled-order", "status": "stalled", "total": EUR},
        {"kind": "payment", "order_id": "paid-order", "status": "succeeded", "amount": EUR},
        {"kind": "payment", "order_id": "declined-order", "status": "declined", "amount": EUR},
        {"kind": "charge", "order_id": "paid-order", "charge_id": "1", "type": "charge", "amount": EUR},
        {"kind": "notification", "order_id": "paid-order", "channel": "email", "status": "delivered"},
        {"kind": "notification", "order_id": "paid-order", "channel": "restaurant", "status": "delivered"},
    ]


def books_of(rows: list[Row]) -> Books:
    books = Books(frozenset(each.order_id for each in ALL))
    for row in rows:
        books.add(row)
    return books


def row_of(rows: list[Row], kind: str) -> Row:
    return next(row for row in rows if row["kind"] == kind)


def test_books_that_agree_have_no_problems() -> None:
    assert problems(ALL, books_of(right_rows())) == {}


def test_other_orders_are_not_our_business() -> None:
    other = {"kind": "charge", "order_id": "someone-else", "charge_id": "2", "type": "charge", "amount": EUR}

    assert problems(ALL, books_of([*right_rows(), other])) == {}


def charge_twice(rows: list[Row]) -> None:
    rows.append({**row_of(rows, "charge"), "charge_id": "2"})


def charge_never(rows: list[Row]) -> None:
    rows.remove(row_of(rows, "charge"))


def charge_too_much(rows: list[Row]) -> None:
    row_of(rows, "charge")["amount"] = {"amount_minor": 2151, "currency": "EUR"}


def charge_the_declined(rows: list[Row]) -> None:
    rows.append({**row_of(rows, "charge"), "order_id": "declined-order"})


def refund(rows: list[Row]) -> None:
    rows.append({**row_of(rows, "charge"), "type": "refund"})


def lose_the_order(rows: list[Row]) -> None:
    rows.remove(row_of(rows, "order"))


def list_the_order_twice(rows: list[Row]) -> None:
    rows.append(row_of(rows, "order"))


def leave_the_order_open(rows: list[Row]) -> None:
    row_of(rows, "order")["status"] = "paid"


def lose_the_payment(rows: list[Row]) -> None:
    rows.remove(row_of(rows, "payment"))


def mail_twice(rows: list[Row]) -> None:
    rows.append(row_of(rows, "notification"))


def mail_never(rows: list[Row]) -> None:
    row_of(rows, "notification")["status"] = "failed"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (charge_twice, "2 charges in the gateway's ledger, not 1"),
        (charge_never, "0 charges in the gateway's ledger, not 1"),
        (charge_too_much, "charged"),
        (refund, "1 refunds"),
        (lose_the_order, "order rows say nothing, not confirmed"),
        (list_the_order_twice, "order rows say ['confirmed', 'confirmed']"),
        (leave_the_order_open, "order rows say ['paid'], not confirmed"),
        (lose_the_payment, "0 payments, not 1"),
        (mail_twice, "not exactly one delivered"),
        (mail_never, "not exactly one delivered"),
    ],
)
def test_a_fault_in_the_books_is_named(spoil: Callable[[list[Row]], None], sentence: str) -> None:
    rows = right_rows()
    spoil(rows)

    found = problems(ALL, books_of(rows))

    assert list(found) == ["paid-order"]
    assert sentence in "; ".join(found["paid-order"])


def test_a_charge_for_a_declined_order_is_named() -> None:
    rows = right_rows()
    charge_the_declined(rows)

    assert problems(ALL, books_of(rows)) == {"declined-order": ["1 charges in the gateway's ledger, not 0"]}

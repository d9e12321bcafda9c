"""The rules of orders: prices come from the menu, and the same events always lead to the same status."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from order_service.causal_order import Notification, in_order, notifications_of
from order_service.orders import (
    MAX_LINES,
    MAX_QUANTITY,
    MENU,
    OrderRequest,
    OrderStatus,
    TimelineEntry,
    UnknownDish,
    price,
    status_of,
    timeline_entry,
)
from shared.events import Event
from shared.ids import new_id
from tests import examples

items: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(dict, sku=st.sampled_from(sorted(MENU)), quantity=st.integers(1, MAX_QUANTITY)),
    min_size=1,
    max_size=MAX_LINES,
)


def request(**changes: Any) -> OrderRequest:
    """As read from a body; None leaves a field out."""
    body = {"customer_email": "ada@example.com", "items": [{"sku": "margherita", "quantity": 2}], **changes}
    return OrderRequest.model_validate({name: value for name, value in body.items() if value is not None})


@given(items)
def test_the_total_is_the_sum_of_the_menus_prices(ordered: list[dict[str, Any]]) -> None:
    order = price(request(items=ordered))

    assert order.total == examples.euros(
        sum(MENU[item["sku"]].price.amount_minor * item["quantity"] for item in ordered)
    )
    assert [(line.sku, line.quantity, line.unit_price) for line in order.items] == [
        (item["sku"], item["quantity"], MENU[item["sku"]].price) for item in ordered
    ]


def test_a_dish_that_is_not_on_the_menu_is_named_with_its_place() -> None:
    with pytest.raises(UnknownDish, match="'unicorn' is not on the menu; expected one of margherita") as caught:
        price(request(items=[{"sku": "cola", "quantity": 1}, {"sku": "unicorn", "quantity": 1}]))
    assert caught.value.index == 1


@pytest.mark.parametrize(
    "number",
    ["+49 151 123-45678", "+49 (0)151 / 123.456.78", "0049 151 12345678", " +49\u00a0151\u202f123 45678 ",
     "+49(151)12345678", "+49 151 123\u201345678", "+4915112345678", "\u202a+49\u00a0151\u201112345678\u202c",
     "+49\u200b151\t12345678\u2060"],
)  # fmt: skip
def test_a_phone_number_may_be_written_as_people_do(number: str) -> None:
    assert request(customer_phone=number).customer_phone == "+4915112345678"


BAD_QUANTITIES = (
    0, -1, MAX_QUANTITY + 1, 10**9, 10**30, "2", 1.5, 0.0, 1e300, float("nan"), float("inf"), True, [2]
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(
            ({field: value}, (field,))
            for field, values in {
                "customer_email": (None, "ada", "ada@example.com\n", f"{'a' * 250}@example.com"),
                "customer_phone": (
                    "015112345678",
                    "+49 151",
                    "+49 151 123456789012",
                    "++49151123456",
                    "+49 151 12x34 56",
                    "+49 (0)1511",
                    "+0151123456",
                    "\u0664\u0669151123456",
                    "",
                ),
                "customer_push": ("", "a topic", "a/b", "a" * 65, "\u00e4"),
                "items": (None, [], [{"sku": "cola", "quantity": 1}] * (MAX_LINES + 1)),
                "payment_token": ("", "visa", "tok_" + "a" * 61, 4),
            }.items()
            for value in values
        ),
        ({"items": [{"quantity": 1}]}, ("items", 0, "sku")),
        ({"items": [{"sku": "", "quantity": 1}]}, ("items", 0, "sku")),
        ({"items": [{"sku": "cola"}]}, ("items", 0, "quantity")),
        *(({"items": [{"sku": "cola", "quantity": each}]}, ("items", 0, "quantity")) for each in BAD_QUANTITIES),
    ],
)
def test_a_bad_value_is_refused_and_its_field_named(changes: dict[str, Any], field: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        request(**changes)
    assert [error["loc"] for error in caught.value.errors()] == [field]


@pytest.mark.parametrize(
    "number",
    ["4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", "tok_4242424242424242", "378282246310005"],
)
def test_a_card_number_is_refused_as_such(number: str) -> None:
    with pytest.raises(ValidationError, match="card numbers are never accepted"):
        request(payment_token=number)


def test_a_whole_number_is_one_however_json_writes_it_and_the_default_token_is_a_good_card() -> None:
    order = request(items=[{"sku": "cola", "quantity": 2.0}])
    assert (order.items[0].quantity, order.payment_token) == (2, "tok_visa")


def history(*makers: Callable[[], Event]) -> list[Event]:
    return [make() for make in makers]


PAID, DECLINED, STALLED = examples.payment_succeeded, examples.payment_declined, examples.payment_stalled
CANCEL, VOIDED, REFUNDED = examples.order_cancelled, examples.payment_voided, examples.payment_refunded
RECEIPT, FAILED, TICKET = examples.receipt_delivered, examples.receipt_failed, examples.ticket_delivered
DECLINE = examples.decline_delivered
GONE = partial(examples.notice_delivered, "email", "cancellation")
MONEY_BACK, STOP = (
    partial(examples.notice_delivered, *notice) for notice in (("email", "refund"), ("restaurant", "kitchen_stop"))
)

# Every set of events that the other services can publish for one order.
HISTORIES: dict[OrderStatus, list[list[Event]]] = {
    OrderStatus.PLACED: [[]],
    OrderStatus.PAID: [history(PAID), history(PAID, TICKET), history(PAID, FAILED, TICKET), history(STALLED, PAID)],
    OrderStatus.CONFIRMED: [
        history(PAID, RECEIPT),
        history(PAID, TICKET, RECEIPT),
        history(PAID, FAILED, RECEIPT),
        history(STALLED, PAID, RECEIPT),
    ],
    OrderStatus.DECLINED: [
        history(DECLINED),
        history(DECLINED, examples.decline_delivered),
        history(STALLED, DECLINED, examples.decline_delivered),
    ],
    OrderStatus.STALLED: [history(STALLED)],
    OrderStatus.CANCELLING: [
        history(CANCEL),
        history(STALLED, CANCEL),
        history(CANCEL, DECLINED, DECLINE),
        history(PAID, RECEIPT, TICKET, CANCEL),
    ],
    OrderStatus.CANCELLED: [
        history(CANCEL, VOIDED),
        history(STALLED, CANCEL, VOIDED, GONE),
        history(CANCEL, DECLINED, DECLINE, VOIDED, GONE),
    ],
    OrderStatus.REFUNDED: [
        history(CANCEL, PAID, REFUNDED),
        history(STALLED, PAID, FAILED, TICKET, CANCEL, REFUNDED, MONEY_BACK, STOP),
        history(PAID, RECEIPT, TICKET, CANCEL, REFUNDED, MONEY_BACK, STOP),
        history(CANCEL, VOIDED, GONE, REFUNDED, MONEY_BACK),  # an answer of the gateway that had been lost
    ],
}
CASES = [(status, history) for status, histories in HISTORIES.items() for history in histories]


@given(st.sampled_from(CASES), st.randoms(use_true_random=False), st.integers(1, 3))
def test_events_in_any_order_and_repeated_make_the_same_status(
    case: tuple[OrderStatus, list[Event]], shuffler: random.Random, times: int
) -> None:
    status, history = case
    arrived = [timeline_entry(event) for event in history] * times
    shuffler.shuffle(arrived)

    assert status_of(arrived) is status


BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CHAIN = history(examples.order_placed, STALLED, PAID, FAILED, RECEIPT)
"""Each event of an order that follows from the one before."""


def happened(event: Event, seconds: float) -> TimelineEntry:
    return replace(timeline_entry(event), at=BEGIN + timedelta(seconds=seconds))


@given(st.randoms(use_true_random=False), st.lists(st.sampled_from([-3600, -1, 0, 1, 3600]), min_size=3, max_size=3))
def test_a_timeline_has_causes_before_effects_whatever_arrived_first_and_whatever_the_clocks_say(
    shuffler: random.Random, wrong_by: list[int]
) -> None:
    clocks = dict(zip(("order_service", "payment_service", "notification_service"), wrong_by, strict=True))
    seconds_apart = shuffler.choice([0, 0.001, 1])  # equal times too
    chain = [happened(event, number * seconds_apart + clocks[event.source]) for number, event in enumerate(CHAIN)]
    ticket = happened(examples.ticket_delivered(), clocks["notification_service"])
    arrived = shuffler.sample([*chain, ticket], len(chain) + 1)

    shown = in_order(arrived)

    assert [entry for entry in shown if entry is not ticket] == chain
    assert shown.index(ticket) > shown.index(chain[2])  # the payment is its cause, too
    assert in_order(shuffler.sample(arrived, len(arrived))) == shown
    assert {(each.channel, each.status) for each in notifications_of(arrived)} == {
        ("email", "delivered"), ("restaurant", "delivered")
    }  # fmt: skip


CAUSES = {
    "order.placed": ("order.cancelled", "payment.stalled", "payment.succeeded", "payment.declined"),
    "order.cancelled": ("payment.voided", "payment.refunded"),
    "payment.stalled": ("payment.succeeded", "payment.declined", "payment.voided"),
    "payment.succeeded": ("payment.refunded", "receipt", "kitchen_ticket"),
    "payment.declined": ("payment.voided", "decline"),
    "payment.voided": ("payment.refunded", "cancellation"),
    "payment.refunded": ("refund", "kitchen_stop"),
}


def label(entry: TimelineEntry) -> str:
    return str(entry.detail.get("notice", entry.type.removesuffix(".v1")))


@given(
    st.sampled_from([history for _, history in CASES]),
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from([-3600, 0, 3600]), min_size=3, max_size=3),
)
def test_every_timeline_has_causes_before_effects_and_with_right_clocks_the_order_of_time(
    history: list[Event], shuffler: random.Random, wrong_by: list[int]
) -> None:
    clocks = dict(zip(("order_service", "payment_service", "notification_service"), wrong_by, strict=True))
    seconds_apart = shuffler.choice([0, 1])
    events = [examples.order_placed(), *history]
    entries = [happened(event, seconds_apart * number + clocks[event.source]) for number, event in enumerate(events)]

    shown = in_order(shuffler.sample(entries, len(entries)))

    places = {label(entry): place for place, entry in enumerate(shown)}
    for cause, effects in CAUSES.items():
        for effect in effects:
            assert places.get(cause, -1) < places.get(effect, len(shown)), (cause, effect)
    assert in_order(shuffler.sample(entries, len(entries))) == shown
    if seconds_apart and len(set(wrong_by)) == 1:
        assert shown == entries


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 10**6), min_size=6, max_size=6, unique=True))
def test_events_that_do_not_cause_each_other_are_ordered_by_time(shuffler: random.Random, times: list[int]) -> None:
    first, *later = sorted(times)
    events = history(FAILED, TICKET, examples.text_delivered)
    entries = [happened(event, at) for event, at in zip(events, later, strict=False)]
    placed, paid = happened(examples.order_placed(), first), happened(examples.payment_succeeded(), first)
    arrived = shuffler.sample([placed, paid, *entries], 5)

    assert in_order(arrived) == [placed, paid, *entries]


def test_a_timeline_may_lack_a_cause_and_hold_what_is_unknown_here() -> None:
    """As with an event of a later release, or before the event of the payment has arrived."""
    receipt, unknown = happened(examples.receipt_delivered(), 5), TimelineEntry(new_id(), "a.later.type", BEGIN, {})
    placed = happened(examples.order_placed(), 9)

    assert in_order([receipt, unknown, placed]) == [placed, receipt, unknown]


def test_the_timeline_shows_no_data_of_the_customer() -> None:
    for event in (examples.payment_succeeded(), examples.payment_declined(), examples.order_placed()):
        assert examples.EMAIL not in str(timeline_entry(event).detail)


def test_each_channel_shows_its_last_state_and_a_delivery_stays() -> None:
    failed, delivered = happened(FAILED(), 1), happened(RECEIPT(), 2)
    others = [happened(PAID(), 0), happened(TICKET(), 3)]

    for arrived in ([failed, *others, delivered], [delivered, *others, failed]):
        assert notifications_of(arrived) == [
            Notification("email", "delivered", delivered.at, "receipt"),
            Notification("restaurant", "delivered", others[1].at, "kitchen_ticket"),
        ]  # fmt: skip

"""The rules of orders: prices come from the menu, and the same events always make the same status."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from order_service.orders import (
    MAX_LINES,
    MAX_QUANTITY,
    MENU,
    Notification,
    OrderRequest,
    OrderStatus,
    TimelineEntry,
    UnknownDish,
    in_order,
    notifications_of,
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


NAN, INFINITY = float("nan"), float("inf")


def request(**changes: Any) -> OrderRequest:
    """As read from a body; None leaves a field out."""
    body = {"customer_email": "ada@example.com", "items": [{"sku": "margherita", "quantity": 2}], **changes}
    return OrderRequest.model_validate({name: value for name, value in body.items() if value is not None})


@given(items)
def test_the_total_is_the_sum_of_the_menus_prices(wanted: list[dict[str, Any]]) -> None:
    order = price(request(items=wanted))

    total = 0
    for item in wanted:
        total += MENU[item["sku"]].price.amount_minor * item["quantity"]
    assert order.total == examples.euros(total)
    assert [(line.sku, line.quantity, line.unit_price) for line in order.items] == [
        (item["sku"], item["quantity"], MENU[item["sku"]].price) for item in wanted
    ]


def test_a_price_that_the_client_sends_counts_for_nothing() -> None:
    cheap = {"sku": "margherita", "quantity": 1, "unit_price": {"amount_minor": 1, "currency": "EUR"}, "price": 1}

    assert price(request(items=[cheap], total={"amount_minor": 1, "currency": "EUR"})).total == examples.euros(950)


def test_a_dish_that_is_not_on_the_menu_is_named_with_its_place() -> None:
    with pytest.raises(UnknownDish, match="'unicorn' is not on the menu; expected one of margherita") as caught:
        price(request(items=[{"sku": "cola", "quantity": 1}, {"sku": "unicorn", "quantity": 1}]))
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer_email": None}, ("customer_email",)),
        ({"customer_email": "ada"}, ("customer_email",)),
        ({"customer_email": "ada@localhost"}, ("customer_email",)),
        ({"customer_email": "ada@example.com\nBcc: all@example.com"}, ("customer_email",)),
        ({"customer_email": "ada@example.com\n"}, ("customer_email",)),
        ({"customer_email": f"{'a' * 250}@example.com"}, ("customer_email",)),
        ({"customer_phone": "015112345678"}, ("customer_phone",)),
        ({"customer_phone": "+49 151"}, ("customer_phone",)),
        ({"items": None}, ("items",)),
        ({"items": []}, ("items",)),
        ({"items": [{"sku": "cola", "quantity": 1}] * (MAX_LINES + 1)}, ("items",)),
        ({"items": [{"quantity": 1}]}, ("items", 0, "sku")),
        ({"items": [{"sku": "", "quantity": 1}]}, ("items", 0, "sku")),
        ({"items": [{"sku": "cola"}]}, ("items", 0, "quantity")),
        *[
            ({"items": [{"sku": "cola", "quantity": quantity}]}, ("items", 0, "quantity"))
            for quantity in (
                0,
                -1,
                MAX_QUANTITY + 1,
                10**9,
                10**30,
                "2",
                1.5,
                0.0,
                1e300,
                float("nan"),
                float("inf"),
                True,
                [2],
            )
        ],
        ({"payment_token": ""}, ("payment_token",)),
        ({"payment_token": "visa"}, ("payment_token",)),
        ({"payment_token": "tok_" + "a" * 61}, ("payment_token",)),
        ({"payment_token": 4}, ("payment_token",)),
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


def test_a_whole_number_is_one_however_json_writes_it() -> None:
    assert request(items=[{"sku": "cola", "quantity": 2.0}]).items[0].quantity == 2


def test_without_a_token_the_order_is_paid_by_the_default_card() -> None:
    assert request().payment_token == "tok_visa"


# Every set of events that the other services can emit for one order.
HISTORIES: dict[OrderStatus, list[list[Event]]] = {
    OrderStatus.PLACED: [[]],
    OrderStatus.PAID: [
        [examples.payment_succeeded()],
        [examples.payment_succeeded(), examples.ticket_delivered()],
        [examples.payment_succeeded(), examples.receipt_failed(), examples.ticket_delivered()],
        [examples.payment_stalled(), examples.payment_succeeded()],
    ],
    OrderStatus.CONFIRMED: [
        [examples.payment_succeeded(), examples.receipt_delivered()],
        [examples.payment_succeeded(), examples.receipt_failed(), examples.receipt_delivered()],
        [examples.payment_stalled(), examples.payment_succeeded(), examples.receipt_delivered()],
    ],
    OrderStatus.DECLINED: [
        [examples.payment_declined()],
        [examples.payment_declined(), examples.decline_delivered()],
        [examples.payment_stalled(), examples.payment_declined(), examples.decline_delivered()],
    ],
    OrderStatus.STALLED: [[examples.payment_stalled()]],
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
CHAIN: list[Event] = [
    examples.order_placed(),
    examples.payment_stalled(),
    examples.payment_succeeded(),
    examples.receipt_failed(),
    examples.receipt_delivered(),
]
"""Each event of an order that follows from the one before."""


def happened(event: Event, seconds: float) -> TimelineEntry:
    return replace(timeline_entry(event), at=BEGIN + timedelta(seconds=seconds))


@given(st.randoms(use_true_random=False), st.lists(st.sampled_from([-3600, -1, 0, 1, 3600]), min_size=3, max_size=3))
def test_a_timeline_tells_causes_before_effects_whatever_arrived_first_and_whatever_the_clocks_say(
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


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 10**6), min_size=6, max_size=6, unique=True))
def test_what_has_no_part_in_each_other_is_told_by_time(shuffler: random.Random, times: list[int]) -> None:
    first, *later = sorted(times)
    makers: tuple[Callable[[], Event], ...] = (
        examples.receipt_failed,
        examples.ticket_delivered,
        examples.text_delivered,
    )
    entries = [happened(make(), at) for make, at in zip(makers, later, strict=False)]
    placed, paid = happened(examples.order_placed(), first), happened(examples.payment_succeeded(), first)
    arrived = shuffler.sample([placed, paid, *entries], 5)

    assert in_order(arrived) == [placed, paid, *entries]


def test_a_timeline_may_lack_a_cause_and_hold_what_is_unknown_here() -> None:
    """As after an event of a later release, or before the news of the payment has arrived."""
    receipt, unknown = happened(examples.receipt_delivered(), 5), TimelineEntry(new_id(), "a.later.type", BEGIN, {})
    placed = happened(examples.order_placed(), 9)

    assert in_order([receipt, unknown, placed]) == [placed, receipt, unknown]


def test_a_kitchen_ticket_alone_does_not_confirm_an_order() -> None:
    entries = [timeline_entry(examples.payment_succeeded()), timeline_entry(examples.ticket_delivered())]

    assert status_of(entries) is OrderStatus.PAID
    assert status_of([*entries, timeline_entry(examples.receipt_delivered())]) is OrderStatus.CONFIRMED


def test_a_status_is_final_when_nothing_follows_it() -> None:
    assert {status for status in OrderStatus if status.is_final} == {
        OrderStatus.CONFIRMED,
        OrderStatus.DECLINED,
        OrderStatus.CANCELLED,
        OrderStatus.REFUNDED,
    }


def test_the_timeline_tells_no_secret_of_the_customer() -> None:
    for event in (examples.payment_succeeded(), examples.payment_declined(), examples.order_placed()):
        assert examples.EMAIL not in str(timeline_entry(event).detail)


def test_a_channel_that_delivered_says_so_also_when_it_hears_of_the_failure_later() -> None:
    failed, delivered = happened(examples.receipt_failed(), 1), happened(examples.receipt_delivered(), 2)

    for arrived in ([failed, delivered], [delivered, failed]):
        assert notifications_of(arrived) == [Notification("email", "delivered", delivered.at)]


def test_each_channel_shows_its_last_known_state() -> None:
    failed, delivered = timeline_entry(examples.receipt_failed()), timeline_entry(examples.receipt_delivered())
    paid = TimelineEntry(new_id(), "payment.succeeded.v1", delivered.at, {})

    shown = notifications_of([paid, failed, timeline_entry(examples.ticket_delivered()), delivered])

    assert [(each.channel, each.status) for each in shown] == [("email", "delivered"), ("restaurant", "delivered")]

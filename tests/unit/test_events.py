"""The codec: what is written can be read, and what cannot be read gives its reason and no customer's data."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.events import (
    MAX_EVENT_BYTES,
    Event,
    Money,
    NotJson,
    OrderItem,
    OrderPlaced,
    OrderPlacedData,
    OrderSummary,
    Oversize,
    SchemaMismatch,
    UnknownType,
    UnknownVersion,
    UnreadableEvent,
    decode,
    encode,
    event_classes,
)
from shared.ids import UUID_PATTERN, new_id
from shared.observability.tracing import start_span
from tests import examples

MAKERS: list[Callable[[], Event]] = [
    examples.order_placed,
    examples.payment_succeeded,
    examples.payment_declined,
    examples.payment_stalled,
    examples.receipt_delivered,
    examples.receipt_failed,
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
money = st.builds(Money, amount_minor=st.integers(0, 10**12), currency=st.from_regex(r"\A[A-Z]{3}\Z"))
order_items = st.builds(OrderItem, sku=texts, name=texts, quantity=st.integers(1, 10**6), unit_price=money)
summaries = st.builds(
    OrderSummary,
    customer_email=texts,
    customer_phone=st.none() | texts,
    items=st.lists(order_items, max_size=5).map(tuple),
    total=money,
)


def wire(event: Event | None = None) -> dict[str, Any]:
    """An event as its JSON object, to be spoiled."""
    parsed: dict[str, Any] = json.loads(encode(event or examples.order_placed()))
    return parsed


def dumped(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_written_is_read_again_the_same(make: Callable[[], Event]) -> None:
    event = make()

    assert decode(encode(event)) == event


def test_every_event_type_has_an_example_here() -> None:
    assert {make().type for make in MAKERS} == set(event_classes())


@given(summaries, texts)
def test_any_order_survives_the_wire(summary: OrderSummary, token: str) -> None:
    data = OrderPlacedData(order=summary, payment_token=token)
    event = OrderPlaced.about(new_id(), source="order_service", data=data)

    assert decode(encode(event)) == event


async def test_an_event_is_a_cloudevent_of_the_current_trace() -> None:
    traceparent = start_span(None)
    event = examples.order_placed()
    body = wire(event)

    assert body["specversion"] == "1.0"
    assert (body["type"], body["source"], body["subject"]) == ("order.placed.v1", "order_service", event.subject)
    assert body["datacontenttype"] == "application/json"
    assert body["traceparent"] == traceparent
    assert body["time"].endswith("Z")
    assert set(body) == {
        "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "traceparent", "data"
    }  # fmt: skip


def test_new_ids_are_uuid_version_7_in_order_of_time() -> None:
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(set(ids))
    assert all(one[14] == "7" for one in ids)
    with pytest.raises(ValidationError, match="subject"):
        OrderPlaced.about(ids[0].upper(), source="order_service", data=examples.order_placed().data)
    assert UUID_PATTERN.startswith("^")


def test_fields_that_a_newer_writer_added_are_ignored() -> None:
    event = examples.order_placed()
    body = wire(event)
    body["newextension"] = {"deep": [1]}
    body["data"]["new"] = 1
    body["data"]["order"]["items"][0]["new"] = None

    assert decode(dumped(body)) == event


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", NotJson),
        (b"hello", NotJson),
        (b"{", NotJson),
        (b"\xff\xfe{}", NotJson),
        (b'{"id": "\xfc"}', NotJson),
        (b"\x00", NotJson),
        (DEEP, NotJson),
        (b'{"type": "order.placed.v1", "data": ' + DEEP + b"}", NotJson),
        (b'{"type": "order.placed.v1", "id": "\\ud800"}', NotJson),
        (b"null", SchemaMismatch),
        (b"[]", SchemaMismatch),
        (b'"order.placed.v1"', SchemaMismatch),
        (b"1", SchemaMismatch),
        (b"NaN", SchemaMismatch),
        (b"{}", SchemaMismatch),
        (b'{"type": "order.placed.v1"}', SchemaMismatch),
        (b'{"type": null}', UnknownType),
        (b'{"type": 5}', UnknownType),
        (b'{"type": ["order.placed.v1"]}', UnknownType),
        (b'{"type": "order.placed"}', UnknownType),
        (b'{"type": "order.eaten.v1"}', UnknownType),
        (b'{"type": "order.placed.v2"}', UnknownVersion),
        (b'{"type": "payment.stalled.v99"}', UnknownVersion),
        (b" " * (MAX_EVENT_BYTES + 1), Oversize),
        (b"x" * 1_000_000, Oversize),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else value.reason,
)
def test_a_body_that_is_no_event_gives_its_reason(body: bytes, kind: type[UnreadableEvent]) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        decode(body)
    assert type(caught.value) is kind
    assert str(caught.value)


def test_each_kind_of_unreadable_event_has_a_word_of_its_own() -> None:
    assert [kind.reason for kind in (Oversize, NotJson, UnknownType, UnknownVersion, SchemaMismatch)] == [
        "oversize", "not-json", "unknown-type", "unknown-version", "schema-mismatch"
    ]  # fmt: skip


SPOILED: list[tuple[str, Any]] = [
    ("specversion", "0.3"),
    ("id", ""),
    ("id", "x" * 129),
    ("id", 7),
    ("source", ""),
    ("subject", "order-1"),
    ("subject", None),
    ("time", "yesterday"),
    ("time", "2026-01-01T00:00:00"),
    ("datacontenttype", "text/plain"),
    ("traceparent", "x" * 129),
    ("data", None),
    ("data.payment_token", None),
    ("data.order.items", "many"),
    ("data.order.total.amount_minor", -1),
    ("data.order.total.amount_minor", 1.5),
    ("data.order.total.amount_minor", 10**30),
    ("data.order.total.amount_minor", float("nan")),
    ("data.order.total.amount_minor", float("inf")),
    ("data.order.total.currency", "eur"),
    ("data.order.items.0.quantity", 0),
    ("data.order.items.0.quantity", 10**400),
]


@pytest.mark.parametrize(("field", "value"), SPOILED, ids=lambda value: str(value)[:30])
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    body = wire()
    *path, last = field.split(".")
    inner: Any = body
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value

    with pytest.raises(SchemaMismatch) as caught:
        decode(dumped(body))
    assert str(caught.value).startswith(f"{field}: ")


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_more_than_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode(body)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | texts,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)),
       st.sampled_from(["type", "id", "subject", "time", "data", "traceparent"]))  # fmt: skip
def test_whatever_stands_in_a_field_it_is_read_or_unreadable(value: Any, field: str) -> None:
    with contextlib.suppress(UnreadableEvent):
        assert decode(dumped({**wire(), field: value})).type in event_classes()


SECRET = "grace.hopper@example.com"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body["data"]["order"].update(customer_email=[SECRET]),
        lambda body: body["data"]["order"].update(total=SECRET),
        lambda body: body["data"]["order"].update(items=SECRET),
        lambda body: body.update(data=SECRET),
        lambda body: body.update(subject=SECRET),
        lambda body: body.update(time=SECRET),
        lambda body: body.update(type={"customer": SECRET}),
    ],
)
def test_an_error_tells_no_customers_data(spoil: Callable[[dict[str, Any]], None]) -> None:
    body = wire(examples.order_placed(email=SECRET))
    spoil(body)

    with pytest.raises(UnreadableEvent) as caught:
        decode(dumped(body))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_event_over_the_limit_is_refused_before_it_is_stored() -> None:
    with pytest.raises(Oversize, match=f"expected at most {MAX_EVENT_BYTES}"):
        encode(examples.order_placed(token="t" * MAX_EVENT_BYTES))

"""The codec: every event can be read again, and a body that is no event gives the reason and no customer's data."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import shared.events
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

EVENTS = [event for event in event_classes().values() if event.__name__ in shared.events.__all__]

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
    """An event as its JSON object, for tests to change."""
    parsed: dict[str, Any] = json.loads(encode(event or examples.order_placed()))
    return parsed


def dumped(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def changed(event: Event, field: str, value: Any) -> bytes:
    """The event's body with another value at a path such as `data.order.items.0.quantity`."""
    *path, last = field.split(".")
    inner: Any = (body := wire(event))
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    return dumped(body)


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_is_read_as_it_was_written(kind: type[Event]) -> None:
    event = examples.example_of(kind)

    assert decode(encode(event)) == event


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


UNREADABLE: dict[type[UnreadableEvent], tuple[bytes, ...]] = {
    NotJson: (
        b"", b"hello", b"{", b"\xff\xfe{}", b'{"id": "\xfc"}', b"\x00", DEEP,
        b'{"type": "order.placed.v1", "data": ' + DEEP + b"}", b'{"type": "order.placed.v1", "id": "\\ud800"}',
    ),
    SchemaMismatch: (
        b"null", b"[]", b'"order.placed.v1"', b"1", b"NaN", b"{}", b'{"type": "order.placed.v1"}'
    ),
    UnknownType: (
        b'{"type": null}', b'{"type": 5}', b'{"type": ["order.placed.v1"]}', b'{"type": "order.placed"}',
        b'{"type": "order.eaten.v1"}',
    ),
    UnknownVersion: (b'{"type": "order.placed.v2"}', b'{"type": "payment.stalled.v99"}'),
    Oversize: (b" " * (MAX_EVENT_BYTES + 1), b"x" * 1_000_000),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body"),
    [(kind, body) for kind, bodies in UNREADABLE.items() for body in bodies],
    ids=lambda value: value[:24] if isinstance(value, bytes) else value.reason,
)
def test_a_body_that_is_no_event_gives_its_reason(kind: type[UnreadableEvent], body: bytes) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        decode(body)
    assert type(caught.value) is kind
    assert str(caught.value)


def test_each_kind_of_unreadable_event_has_a_reason_of_its_own() -> None:
    assert [kind.reason for kind in UNREADABLE] == [
        "not-json", "schema-mismatch", "unknown-type", "unknown-version", "oversize"
    ]  # fmt: skip


WRONG: dict[str, tuple[Any, ...]] = {
    "specversion": ("0.3",),
    "id": ("", "x" * 129, 7),
    "source": ("",),
    "subject": ("order-1", None),
    "time": ("yesterday", "2026-01-01T00:00:00"),
    "datacontenttype": ("text/plain",),
    "traceparent": ("x" * 129,),
    "data": (None,),
    "data.payment_token": (None,),
    "data.order.items": ("many",),
    "data.order.total.amount_minor": (-1, 1.5, 10**30, float("nan"), float("inf")),
    "data.order.total.currency": ("eur",),
    "data.order.items.0.quantity": (0, 10**400),
}
CHANGED = [(field, value) for field, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("field", "value"), CHANGED, ids=lambda value: str(value)[:30])
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        decode(changed(examples.order_placed(), field, value))
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
    ("field", "value"),
    [
        ("data.order.customer_email", [SECRET]),
        *((field, SECRET) for field in ("data.order.total", "data.order.items", "data", "subject", "time")),
        ("type", {"customer": SECRET}),
    ],
)
def test_an_error_shows_no_data_of_the_customer(field: str, value: Any) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        decode(changed(examples.order_placed(email=SECRET), field, value))
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_event_over_the_limit_is_refused_before_it_is_stored() -> None:
    with pytest.raises(Oversize, match=f"expected at most {MAX_EVENT_BYTES}"):
        encode(examples.order_placed(token="t" * MAX_EVENT_BYTES))

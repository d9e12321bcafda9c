"""POST /orders: answers at once, places one order per key, and names the wrong field of a bad request."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from shared.events import OrderPlaced
from shared.ids import new_id
from tests.service.process import RunningService, problem
from tests.service.wire import Wire

BODY: dict[str, Any] = {
    "customer_email": "ada@example.com",
    "customer_phone": "+4915112345678",
    "items": [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}],
    "payment_token": "tok_visa",
}
EUR_22 = {"amount_minor": 2200, "currency": "EUR"}


def with_item(**changes: Any) -> dict[str, Any]:
    item = {"sku": "margherita", "quantity": 1, **changes}
    return {**BODY, "items": [{name: value for name, value in item.items() if value is not None}]}


async def place(service: RunningService, body: dict[str, Any] = BODY, key: str | None = None) -> httpx.Response:
    return await service.http.post("/orders", json=body, headers={"Idempotency-Key": key} if key else {})


async def listed(service: RunningService) -> set[str]:
    return {row["order_id"] for row in await service.audit()}


async def test_an_order_is_accepted_at_once(order_service: RunningService) -> None:
    answer = await place(order_service)

    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/orders/{body['order_id']}"
    assert (body["status"], body["total"]) == ("placed", EUR_22)
    assert datetime.fromisoformat(body["placed_at"]).utcoffset() is not None
    assert set(body) == {"order_id", "status", "total", "placed_at"}
    order = (await order_service.http.get(answer.headers["location"])).json()
    assert (order["order_id"], order["status"], order["total"]) == (body["order_id"], "placed", EUR_22)


async def test_what_is_published_is_the_contracts_event(order_service: RunningService, wire: Wire) -> None:
    traceparent = f"00-{'c' * 32}-{'d' * 16}-01"
    answer = await order_service.http.post("/orders", json=BODY, headers={"traceparent": traceparent})
    order_id = answer.json()["order_id"]

    event = await wire.event("orders", order_id, "order.placed.v1")
    (message,) = wire.messages("orders", order_id)

    assert isinstance(event, OrderPlaced)
    assert (message.routing_key, message.type) == ("order.placed.v1", "order.placed.v1")
    assert message.content_type == "application/cloudevents+json"
    assert (message.message_id, message.app_id) == (event.id, "order_service")
    assert message.timestamp == int(event.time.timestamp())
    assert dict(message.headers) == {}
    envelope = json.loads(message.body)
    assert (envelope["specversion"], envelope["source"], envelope["subject"]) == ("1.0", "order_service", order_id)
    assert envelope["traceparent"].startswith(f"00-{'c' * 32}-")
    assert event.data.payment_token == "tok_visa"
    assert event.data.order.customer_phone == "+4915112345678"
    assert event.data.order.total.model_dump() == EUR_22


async def test_a_price_in_the_request_counts_for_nothing(order_service: RunningService) -> None:
    answer = await place(order_service, {**with_item(price=1, unit_price=1), "total": 1})

    assert answer.json()["total"] == {"amount_minor": 950, "currency": "EUR"}


async def test_the_menu_has_prices(order_service: RunningService) -> None:
    menu = {dish["sku"]: dish for dish in (await order_service.http.get("/menu")).json()}

    assert menu["margherita"]["price"] == {"amount_minor": 950, "currency": "EUR"}
    assert menu["cola"]["name"]


BAD_BODIES = {
    "no email": ({"items": BODY["items"]}, "customer_email", ""),
    "an email that programs read in different ways": (
        {**BODY, "customer_email": "=?utf-8?q?mallory?=@example.com"}, "customer_email", "another text"
    ),
    "bad phone": ({**BODY, "customer_phone": "12"}, "customer_phone", "country code"),
    "items of another kind": ({**BODY, "items": "margherita"}, "items", ""),
    "no sku": (with_item(sku=None), "items[0].sku", ""),
    "unknown sku": (with_item(sku="unicorn"), "items[0].sku", "not on the menu"),
    "bad quantity": (with_item(quantity="2"), "items[0].quantity", ""),
    "card number": ({**BODY, "payment_token": "4242 4242 4242 4242"}, "payment_token", "card number"),
    "not an object": ([], "body", ""),
}  # fmt: skip


@pytest.mark.parametrize(("body", "field", "why"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_gets_a_problem_that_names_the_field(
    order_service: RunningService, body: Any, field: str, why: str
) -> None:
    found = problem(await order_service.http.post("/orders", json=body), 422)

    (error,) = found["errors"]
    assert error["field"] == field
    assert why in error["detail"]
    assert found["detail"].startswith(f"{field}: ")
    assert found["instance"] == "/orders"
    assert "4242" not in json.dumps(found)


JSON_TYPE = "application/json"


@pytest.mark.parametrize(
    ("content", "media_type", "status", "detail"),
    [
        *((each, JSON_TYPE, 400, "body: ") for each in (b"", b"{", b'{"customer_email": "\xfc"}', b"[" * 50_000)),
        *((json.dumps(BODY).encode(), each, 415, "Content-Type: expected application/json")
          for each in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp")),
    ],
)  # fmt: skip
async def test_what_is_not_json_is_refused(
    order_service: RunningService, content: bytes, media_type: str, status: int, detail: str
) -> None:
    answer = await order_service.http.post("/orders", content=content, headers={"Content-Type": media_type})

    assert problem(answer, status)["detail"].startswith(detail)


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


async def test_a_body_over_64_kib_is_too_large_declared_or_not(order_service: RunningService) -> None:
    headers = {"Content-Type": JSON_TYPE}
    for content in (b" " * 65 * 1024, chunks(65 * 1024)):
        answer = await order_service.http.post("/orders", content=content, headers=headers)
        assert "65536 bytes" in problem(answer, 413)["detail"]
    fits = json.dumps(BODY).encode().ljust(64 * 1024)
    assert (await order_service.http.post("/orders", content=fits, headers=headers)).status_code == 202


async def test_the_same_key_with_the_same_body_gives_the_first_answer(order_service: RunningService) -> None:
    key = f'"{new_id()}"'
    first = await place(order_service, key=key)
    reordered = dict(reversed(BODY.items()))
    second = await place(order_service, reordered, key)
    bare = await place(order_service, key=key.strip('"'))

    assert first.status_code == second.status_code == bare.status_code == 202
    assert first.json() == second.json() == bare.json()
    assert first.headers["location"] == second.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == bare.headers["idempotent-replayed"] == "true"


async def test_the_same_key_twenty_times_at_once_places_one_order(order_service: RunningService, wire: Wire) -> None:
    before, key = await listed(order_service), new_id()
    answers = await asyncio.gather(*(place(order_service, key=key) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    (order_id,) = {answer.json()["order_id"] for answer in answers}
    assert await listed(order_service) - before == {order_id}
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
    await wire.event("orders", order_id, "order.placed.v1")
    assert len(wire.messages("orders", order_id)) == 1


async def test_the_same_key_with_another_body_is_refused(order_service: RunningService) -> None:
    key = new_id()
    await place(order_service, key=key)
    before = await listed(order_service)

    found = problem(await place(order_service, with_item(), key), 422)

    assert found["errors"][0]["field"] == "Idempotency-Key"
    assert await listed(order_service) == before


async def test_a_bad_request_does_not_use_up_its_key(order_service: RunningService) -> None:
    key = new_id()
    problem(await place(order_service, with_item(sku="unicorn"), key), 422)

    assert (await place(order_service, key=key)).status_code == 202


@pytest.mark.parametrize("keys", [['"unclosed'], ['"a"', '"a"']])
async def test_a_malformed_key_is_refused(order_service: RunningService, keys: list[str]) -> None:
    headers = [("Idempotency-Key", key) for key in keys]
    found = problem(await order_service.http.post("/orders", json=BODY, headers=headers), 400)

    assert found["errors"][0]["field"] == "Idempotency-Key"


async def test_every_order_has_an_id_of_its_own_in_order_of_time(order_service: RunningService) -> None:
    ids = [(await place(order_service)).json()["order_id"] for _ in range(5)]

    assert ids == sorted(set(ids))
    assert all(len(order_id) == 36 and order_id[14] == "7" for order_id in ids)

"""POST /orders: answers at once, places one order per key, and names the wrong field of a bad request."""

import asyncio
import json
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
    return {**BODY, "items": [{"sku": "margherita", "quantity": 1, **changes}]}


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
    assert dict(message.headers) == {}
    assert (event.traceparent or "").startswith(f"00-{'c' * 32}-")
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
    "an email that programs read in different ways": (
        {**BODY, "customer_email": "=?utf-8?q?mallory?=@example.com"}, "customer_email", "another text"
    ),
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


async def test_a_key_is_used_up_by_its_first_order_and_not_by_a_bad_request(order_service: RunningService) -> None:
    key = new_id()
    problem(await place(order_service, with_item(sku="unicorn"), key), 422)
    assert (await place(order_service, key=key)).status_code == 202
    before = await listed(order_service)

    found = problem(await place(order_service, with_item(), key), 422)

    assert found["errors"][0]["field"] == "Idempotency-Key"
    assert await listed(order_service) == before


@pytest.mark.parametrize("keys", [['"unclosed'], ['"a"', '"a"']])
async def test_a_malformed_key_is_refused(order_service: RunningService, keys: list[str]) -> None:
    headers = [("Idempotency-Key", key) for key in keys]
    found = problem(await order_service.http.post("/orders", json=BODY, headers=headers), 400)

    assert found["errors"][0]["field"] == "Idempotency-Key"

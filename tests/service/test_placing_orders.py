"""POST /orders: answers at once, never twice for one key, and names what is wrong with a bad request."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from shared.events import OrderPlaced
from shared.ids import new_id
from tests.service.process import RunningService
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


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in BODY.items() if name != field}


async def place(service: RunningService, body: dict[str, Any] = BODY, key: str | None = None) -> httpx.Response:
    return await service.http.post("/orders", json=body, headers={"Idempotency-Key": key} if key else {})


async def listed(service: RunningService) -> set[str]:
    return {row["order_id"] for row in await service.audit()}


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of an answer, which must be well-formed."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["type"]) == (status, "about:blank")
    assert body["title"]
    assert body["detail"]
    return body


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
    "no email": (without("customer_email"), "customer_email"),
    "bad email": ({**BODY, "customer_email": "ada"}, "customer_email"),
    "bad phone": ({**BODY, "customer_phone": "12"}, "customer_phone"),
    "no items": (without("items"), "items"),
    "empty items": ({**BODY, "items": []}, "items"),
    "items of another kind": ({**BODY, "items": "margherita"}, "items"),
    "no sku": (with_item(sku=None), "items[0].sku"),
    "unknown sku": (with_item(sku="unicorn"), "items[0].sku"),
    "no quantity": (with_item(quantity=None), "items[0].quantity"),
    **{
        f"quantity {quantity!r}": (with_item(quantity=quantity), "items[0].quantity")
        for quantity in (0, -1, 10**9, "2", 1.5, True)
    },
    "card number": ({**BODY, "payment_token": "4242 4242 4242 4242"}, "payment_token"),
    "no token of ours": ({**BODY, "payment_token": "visa"}, "payment_token"),
    "not an object": ([], "body"),
}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("=?utf-8?q?mallory?=@example.com", "another text"),
        ("a" * 65 + "@example.com", "64 characters"),
        ("a..b@example.com", "dots"),
        ("ada@example.com\r\nRCPT TO:<mallory@example.com>", "such as ada@example.com"),
    ],
)
async def test_an_address_that_mail_programs_read_otherwise_is_refused_with_the_reason(
    order_service: RunningService, address: str, why: str
) -> None:
    answer = await place(order_service, {**BODY, "customer_email": address})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    (error,) = answer.json()["errors"]
    assert error["field"] == "customer_email"
    assert why in json.dumps(error)


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_gets_a_problem_that_names_the_field(
    order_service: RunningService, body: Any, field: str
) -> None:
    found = problem(await order_service.http.post("/orders", json=body), 422)

    assert [error["field"] for error in found["errors"]] == [field]
    assert found["detail"].startswith(f"{field}: ")
    assert found["instance"] == "/orders"
    assert "4242" not in json.dumps(found)


@pytest.mark.parametrize("content", [b"", b"hello", b"{", b'{"customer_email": "\xfc"}', b"[" * 50_000])
async def test_what_is_not_json_is_a_bad_request(order_service: RunningService, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    found = problem(await order_service.http.post("/orders", content=content, headers=headers), 400)

    assert found["errors"][0]["field"] == "body"


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_content_type_is_unsupported(order_service: RunningService, media_type: str) -> None:
    content, headers = json.dumps(BODY).encode(), {"Content-Type": media_type}
    found = problem(await order_service.http.post("/orders", content=content, headers=headers), 415)

    assert found["detail"].startswith("Content-Type: expected application/json")


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


async def test_a_body_over_64_kib_is_too_large_declared_or_not(order_service: RunningService) -> None:
    headers = {"Content-Type": "application/json"}
    declared = await order_service.http.post("/orders", content=b" " * 65 * 1024, headers=headers)
    found_out = await order_service.http.post("/orders", content=chunks(65 * 1024), headers=headers)

    for answer in (declared, found_out):
        assert "65536 bytes" in problem(answer, 413)["detail"]
    fits = json.dumps(BODY).encode().ljust(64 * 1024)
    assert (await order_service.http.post("/orders", content=fits, headers=headers)).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("DELETE", "/orders", "GET, POST"), ("PUT", "/orders", "GET, POST"), ("POST", "/menu", "GET"),
     ("PATCH", "/orders/019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55", "GET"), ("POST", "/livez", "GET")],
)  # fmt: skip
async def test_a_wrong_method_is_told_the_right_ones(
    order_service: RunningService, method: str, path: str, allow: str
) -> None:
    answer = await order_service.http.request(method, path)

    problem(answer, 405)
    assert set(allow.split(", ")) <= set(answer.headers["allow"].split(", "))
    assert method not in answer.headers["allow"]


async def test_an_unknown_path_is_not_found(order_service: RunningService) -> None:
    problem(await order_service.http.get("/nowhere"), 404)


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


@pytest.mark.parametrize("keys", [['"unclosed'], ["with space"], [""], ["k" * 256], ['"a"', '"a"'], ['"a", "b"']])
async def test_a_malformed_key_is_refused(order_service: RunningService, keys: list[str]) -> None:
    headers = [("Idempotency-Key", key) for key in keys]
    found = problem(await order_service.http.post("/orders", json=BODY, headers=headers), 400)

    assert found["errors"][0]["field"] == "Idempotency-Key"


async def test_every_order_has_an_id_of_its_own_in_order_of_time(order_service: RunningService) -> None:
    ids = [(await place(order_service)).json()["order_id"] for _ in range(5)]

    assert ids == sorted(set(ids))
    assert all(len(order_id) == 36 and order_id[14] == "7" for order_id in ids)

"""What becomes of an order, read three ways: the order itself, pages of orders, and the live stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from shared.events import Event
from tests import examples
from tests.service.process import OPERATOR, RunningService
from tests.service.wire import Wire
from tests.support import eventually

BODY = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}
TRACK = "order_service.track"


async def place(service: RunningService) -> str:
    order_id: str = (await service.http.post("/orders", json=BODY)).raise_for_status().json()["order_id"]
    return order_id


async def order(service: RunningService, order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await service.http.get(f"/orders/{order_id}")).raise_for_status().json()
    return found


async def reaches(service: RunningService, order_id: str, status: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await order(service, order_id)
        return found if found["status"] == status else None

    found: dict[str, Any] | None = await eventually(look, expecting=f"the order to be {status}")
    assert found is not None
    return found


async def test_an_order_follows_the_events_of_the_others(order_service: RunningService, wire: Wire) -> None:
    order_id = await place(order_service)
    wire.send(examples.payment_succeeded(order_id))
    await reaches(order_service, order_id, "paid")
    wire.send(examples.ticket_delivered(order_id))
    wire.send(examples.receipt_delivered(order_id))

    async def is_told_all() -> dict[str, Any] | None:
        found = await reaches(order_service, order_id, "confirmed")
        return found if len(found["notifications"]) == 2 else None

    found = await eventually(is_told_all, expecting="both notifications")

    assert found is not None
    assert [entry["type"] for entry in found["timeline"]] == [
        "order.placed.v1", "payment.succeeded.v1", "notification.delivered.v1", "notification.delivered.v1"
    ]  # fmt: skip
    assert found["timeline"][1]["charge_id"] == "charge-1"
    assert [(each["channel"], each["status"]) for each in found["notifications"]] == [
        ("restaurant", "delivered"), ("email", "delivered")
    ]  # fmt: skip
    assert found["items"][0]["sku"] == "cola"
    assert examples.EMAIL not in json.dumps(found)


async def test_events_in_the_wrong_order_and_twice_make_the_same_of_it(
    order_service: RunningService, wire: Wire
) -> None:
    order_id = await place(order_service)
    receipt, paid = examples.receipt_delivered(order_id), examples.payment_succeeded(order_id)
    for event in (receipt, paid, receipt, paid):
        wire.send(event)

    found = await reaches(order_service, order_id, "confirmed")

    assert len(found["timeline"]) == 3


async def test_the_order_tells_causes_first_and_its_stream_what_arrived_first(
    order_service: RunningService, wire: Wire
) -> None:
    order_id = await place(order_service)
    receipt, paid = examples.receipt_delivered(order_id), examples.payment_succeeded(order_id)
    wire.send(receipt)

    async def has_heard() -> bool:
        return len((await order(order_service, order_id))["timeline"]) == 2

    await eventually(has_heard, expecting="word of the receipt")
    wire.send(paid)
    found = await reaches(order_service, order_id, "confirmed")

    assert [entry["type"] for entry in found["timeline"]] == ["order.placed.v1", paid.type, receipt.type]
    async with stream(order_service, order_id) as events:
        assert [event.id async for event in events] == [order_id, receipt.id, paid.id]
    async with stream(order_service, order_id, last_event_id=receipt.id) as events:
        assert [event.id async for event in events] == [paid.id]


@pytest.mark.parametrize(
    ("event", "status"), [(examples.payment_declined, "declined"), (examples.payment_stalled, "stalled")]
)
async def test_an_order_that_is_not_paid_says_so(
    order_service: RunningService, wire: Wire, event: Any, status: str
) -> None:
    order_id = await place(order_service)
    told: Event = event(order_id)
    wire.send(told)

    found = await reaches(order_service, order_id, status)

    assert found["timeline"][-1]["type"] == f"payment.{status}.v1"
    assert {"reason", "error"} & set(found["timeline"][-1])


async def test_a_stalled_order_goes_on_when_its_charge_is_redriven(order_service: RunningService, wire: Wire) -> None:
    order_id = await place(order_service)
    wire.send(examples.payment_stalled(order_id))
    await reaches(order_service, order_id, "stalled")

    wire.send(examples.payment_succeeded(order_id))

    await reaches(order_service, order_id, "paid")


async def test_news_of_an_order_that_was_never_placed_is_parked(order_service: RunningService, wire: Wire) -> None:
    event = examples.payment_succeeded()
    wire.send(event)

    letter = await wire.dead_letter(TRACK, event.id)

    assert letter.headers["dead-letter-reason"] == "unknown-order"


UNKNOWN = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"


@pytest.mark.parametrize("order_id", [UNKNOWN, "nonsense", UNKNOWN.upper(), "..%2F..%2Fetc", "%00"])
async def test_an_unknown_order_is_not_found(order_service: RunningService, order_id: str) -> None:
    for path in (f"/orders/{order_id}", f"/orders/{order_id}/events"):
        answer = await order_service.http.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_pages_walk_every_order_once_newest_first(order_service: RunningService) -> None:
    placed = [await place(order_service) for _ in range(5)]
    everything = [row["order_id"] for row in await order_service.audit()]

    walked: list[str] = []
    cursor: str | None = None
    while True:
        after = {"after": cursor} if cursor else {}
        page = (await order_service.http.get("/orders", params={"limit": "2", **after})).raise_for_status().json()
        assert 1 <= len(page["orders"]) <= 2
        walked += [each["order_id"] for each in page["orders"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert walked == everything[::-1]
    assert walked[:5] == placed[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=-1", "limit=abc", "limit=", "limit=1.5", "after=nonsense", "after="]
)
async def test_a_bad_page_request_names_the_parameter(order_service: RunningService, query: str) -> None:
    answer = await order_service.http.get(f"/orders?{query}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


@dataclass
class Sent:
    id: str
    data: dict[str, Any]


@asynccontextmanager
async def stream(
    service: RunningService, order_id: str, last_event_id: str | None = None
) -> AsyncIterator[AsyncIterator[Sent]]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    async with service.http.stream("GET", f"/orders/{order_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")

        async def events() -> AsyncIterator[Sent]:
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "data" in fields:
                    yield Sent(fields["id"], json.loads(fields["data"]))
                    fields = {}

        yield events()


async def test_the_stream_gives_the_timeline_so_far_then_what_comes_and_ends(
    order_service: RunningService, wire: Wire
) -> None:
    order_id = await place(order_service)
    async with asyncio.timeout(20), stream(order_service, order_id) as events:
        first = await anext(events)
        assert (first.id, first.data["type"]) == (order_id, "order.placed.v1")

        paid = examples.payment_succeeded(order_id)
        wire.send(paid)
        second = await anext(events)
        assert (second.id, second.data["type"]) == (paid.id, "payment.succeeded.v1")
        assert datetime.fromisoformat(second.data["at"]) == paid.time

        wire.send(examples.receipt_delivered(order_id))
        rest = [event.data["type"] async for event in events]
        assert rest == ["notification.delivered.v1"]


async def test_a_stream_goes_on_after_the_last_event_that_was_seen(order_service: RunningService, wire: Wire) -> None:
    order_id = await place(order_service)
    paid, receipt = examples.payment_succeeded(order_id), examples.receipt_delivered(order_id)
    wire.send(paid)
    await reaches(order_service, order_id, "paid")
    wire.send(receipt)
    await reaches(order_service, order_id, "confirmed")

    async def ids(last_event_id: str | None) -> list[str]:
        async with stream(order_service, order_id, last_event_id) as events:
            return [event.id async for event in events]

    assert await ids(None) == [order_id, paid.id, receipt.id]
    assert await ids(order_id) == [paid.id, receipt.id]
    assert await ids(paid.id) == [receipt.id]
    assert await ids(paid.id.upper()) == [receipt.id]
    assert await ids("never seen") == [order_id, paid.id, receipt.id]
    over = await order_service.http.get(f"/orders/{order_id}/events", headers={"Last-Event-ID": receipt.id})
    assert (over.status_code, over.content) == (204, b"")


async def test_many_streams_of_one_order_all_end(order_service: RunningService, wire: Wire) -> None:
    order_id = await place(order_service)

    async def follow() -> list[str]:
        async with stream(order_service, order_id) as events:
            return [event.data["type"] async for event in events]

    async with asyncio.timeout(20):
        following = [asyncio.create_task(follow()) for _ in range(30)]
        wire.send(examples.payment_declined(order_id))
        seen = await asyncio.gather(*following)

    assert seen == [["order.placed.v1", "payment.declined.v1"]] * 30


async def test_the_audit_streams_every_order_to_operators_only(order_service: RunningService) -> None:
    order_id = await place(order_service)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}):
        assert (await order_service.http.get("/audit", headers=headers)).status_code == 401

    answer = await order_service.http.get("/audit", headers=OPERATOR)

    assert answer.headers["content-type"].startswith("application/x-ndjson")
    row = json.loads(answer.text.splitlines()[-1])
    assert (row["kind"], row["order_id"], row["status"]) == ("order", order_id, "placed")
    assert row["total"] == {"amount_minor": 300, "currency": "EUR"}
    assert set(row) >= {"placed_at", "updated_at"}

"""An order as its events arrive, read in three ways: the order itself, pages of orders, and the live stream."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from shared.events import Event
from tests import examples
from tests.service.process import OPERATOR, RunningService, problem
from tests.service.wire import Wire
from tests.support import eventually

BODY = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}
TRACK = "order_service.track"
UNKNOWN = "019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"


async def place(service: RunningService) -> str:
    order_id: str = (await service.http.post("/orders", json=BODY)).raise_for_status().json()["order_id"]
    return order_id


async def reaches(service: RunningService, order_id: str, status: str, entries: int = 0) -> dict[str, Any]:
    """The order, once it has this status and as many timeline entries."""

    async def look() -> dict[str, Any] | None:
        order: dict[str, Any] = (await service.http.get(f"/orders/{order_id}")).raise_for_status().json()
        return order if order["status"] == status and len(order["timeline"]) >= entries else None

    order: dict[str, Any] | None = await eventually(look, expecting=f"the order to be {status}")
    assert order is not None
    return order


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


async def streamed(service: RunningService, order_id: str, last_event_id: str | None = None) -> list[str]:
    """The ids of all events that the stream sends until it ends."""
    async with asyncio.timeout(20), stream(service, order_id, last_event_id) as events:
        return [event.id async for event in events]


async def test_an_order_follows_the_events_of_the_other_services(order_service: RunningService, wire: Wire) -> None:
    order_id = await place(order_service)
    wire.send(examples.payment_succeeded(order_id))
    await reaches(order_service, order_id, "paid")
    wire.send(examples.ticket_delivered(order_id))
    wire.send(examples.receipt_delivered(order_id))

    order = await reaches(order_service, order_id, "confirmed", entries=4)

    assert [entry["type"] for entry in order["timeline"]] == [
        "order.placed.v1", "payment.succeeded.v1", "notification.delivered.v1", "notification.delivered.v1"
    ]  # fmt: skip
    assert order["timeline"][1]["charge_id"] == "charge-1"
    assert [(each["channel"], each["status"]) for each in order["notifications"]] == [
        ("restaurant", "delivered"), ("email", "delivered")
    ]  # fmt: skip
    assert order["items"][0]["sku"] == "cola"
    assert examples.EMAIL not in json.dumps(order)


async def test_events_out_of_order_and_twice_are_shown_by_cause_and_streamed_by_arrival(
    order_service: RunningService, wire: Wire
) -> None:
    order_id = await place(order_service)
    receipt, paid = examples.receipt_delivered(order_id), examples.payment_succeeded(order_id)
    wire.send(receipt, times=2)
    await reaches(order_service, order_id, "placed", entries=2)
    wire.send(paid, times=2)

    order = await reaches(order_service, order_id, "confirmed")

    assert [entry["type"] for entry in order["timeline"]] == ["order.placed.v1", paid.type, receipt.type]
    for last_seen, rest in {
        None: [order_id, receipt.id, paid.id],
        "never seen": [order_id, receipt.id, paid.id],
        order_id: [receipt.id, paid.id],
        receipt.id: [paid.id],
        receipt.id.upper(): [paid.id],
    }.items():
        assert await streamed(order_service, order_id, last_seen) == rest
    over = await order_service.http.get(f"/orders/{order_id}/events", headers={"Last-Event-ID": paid.id})
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.parametrize(
    ("event", "status"), [(examples.payment_declined, "declined"), (examples.payment_stalled, "stalled")]
)
async def test_an_order_that_is_not_paid_says_so(
    order_service: RunningService, wire: Wire, event: Callable[[str], Event], status: str
) -> None:
    order_id = await place(order_service)
    wire.send(event(order_id))

    order = await reaches(order_service, order_id, status)

    assert order["timeline"][-1]["type"] == f"payment.{status}.v1"
    assert {"reason", "error"} & set(order["timeline"][-1])
    if status == "stalled":  # until its charge is redriven
        wire.send(examples.payment_succeeded(order_id))
        await reaches(order_service, order_id, "paid")


async def test_an_event_of_an_order_that_was_never_placed_is_dead_lettered(
    order_service: RunningService, wire: Wire
) -> None:
    event = examples.payment_succeeded()
    wire.send(event)

    message = await wire.dead_letter(TRACK, event.id)

    assert message.headers["dead-letter-reason"] == "unknown-order"


@pytest.mark.parametrize("order_id", [UNKNOWN, "nonsense", UNKNOWN.upper(), "..%2F..%2Fetc", "%00"])
async def test_an_unknown_order_is_not_found(order_service: RunningService, order_id: str) -> None:
    for path in (f"/orders/{order_id}", f"/orders/{order_id}/events"):
        problem(await order_service.http.get(path), 404)


async def test_pages_walk_every_order_once_newest_first(order_service: RunningService) -> None:
    placed = [await place(order_service) for _ in range(5)]
    rows = await order_service.audit()
    audited = [row["order_id"] for row in rows]
    assert (rows[-1]["kind"], rows[-1]["status"], rows[-1]["total"]["amount_minor"]) == ("order", "placed", 300)
    assert set(rows[-1]) >= {"placed_at", "updated_at"}

    walked: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        query = {"limit": "2", **({"after": page["next"]} if page["next"] else {})}
        page = (await order_service.http.get("/orders", params=query, headers=OPERATOR)).raise_for_status().json()
        assert 1 <= len(page["orders"]) <= 2
        walked += [each["order_id"] for each in page["orders"]]

    assert walked == audited[::-1]
    assert walked[:5] == placed[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=-1", "limit=abc", "limit=", "limit=1.5", "after=nonsense", "after="]
)
async def test_a_bad_page_request_names_the_parameter(order_service: RunningService, query: str) -> None:
    errors = problem(await order_service.http.get(f"/orders?{query}", headers=OPERATOR), 422)["errors"]

    assert [error["field"] for error in errors] == [query.partition("=")[0]]


async def test_the_stream_sends_the_timeline_so_far_then_new_events_and_ends(
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
        assert [event.data["type"] async for event in events] == ["notification.delivered.v1"]


async def test_many_streams_of_one_order_all_end(order_service: RunningService, wire: Wire) -> None:
    order_id, declined = await place(order_service), examples.payment_declined
    following = [asyncio.create_task(streamed(order_service, order_id)) for _ in range(30)]
    wire.send(event := declined(order_id))

    assert await asyncio.gather(*following) == [[order_id, event.id]] * 30

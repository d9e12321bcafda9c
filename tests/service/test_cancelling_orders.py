"""POST /orders/{id}/cancel: answers at once, cancels once, says why not; the order goes on to its new end."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.events import OrderCancelled
from tests import examples
from tests.service.process import RunningService, problem, running_alone
from tests.service.test_following_orders import place, reaches, stream, streamed
from tests.service.wire import Wire


async def cancel(service: RunningService, order_id: str, **headers: str) -> httpx.Response:
    return await service.http.post(f"/orders/{order_id}/cancel", headers=headers)


async def order_of(service: RunningService, order_id: str) -> dict[str, Any]:
    order: dict[str, Any] = (await service.http.get(f"/orders/{order_id}")).raise_for_status().json()
    return order


async def test_a_cancellation_is_accepted_at_once_and_published_once(order_service: RunningService, wire: Wire) -> None:
    order_id, traceparent = await place(order_service), f"00-{'c' * 32}-{'d' * 16}-01"

    first = await cancel(order_service, order_id, traceparent=traceparent)
    again = await cancel(order_service, order_id.upper())

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() == {"order_id": order_id, "status": "cancelling"}
    assert first.headers["location"] == again.headers["location"] == f"/orders/{order_id}"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    order = await order_of(order_service, order_id)
    assert (order["status"], order["duplicates"]) == ("cancelling", 1)
    assert [entry["type"] for entry in order["timeline"]] == ["order.placed.v1", "order.cancelled.v1"]
    event = await wire.event("orders", order_id, "order.cancelled.v1")
    assert isinstance(event, OrderCancelled)
    assert (event.data.reason, event.data.order.total.amount_minor) == ("customer", 300)
    assert (event.traceparent or "").startswith(f"00-{'c' * 32}-")
    assert [each.type for each in wire.messages("orders", order_id)] == ["order.placed.v1", "order.cancelled.v1"]


async def test_a_confirmed_order_is_refunded_and_its_stream_goes_on_to_the_new_end(
    order_service: RunningService, wire: Wire
) -> None:
    order_id = await place(order_service)
    wire.send(examples.payment_succeeded(order_id))
    wire.send(examples.receipt_delivered(order_id))
    before = await reaches(order_service, order_id, "confirmed")
    assert before["cancellation"]["effect"] == "refund"
    ended = await streamed(order_service, order_id)
    assert len(ended) == 3

    await cancel(order_service, order_id)
    async with asyncio.timeout(20), stream(order_service, order_id, ended[-1]) as events:
        assert (await anext(events)).data["type"] == "order.cancelled.v1"
        wire.send(examples.payment_refunded(order_id))
        assert [event.data["type"] async for event in events] == ["payment.refunded.v1"]

    order = await order_of(order_service, order_id)
    assert order["status"] == "refunded"
    assert order["timeline"][-1]["refund_id"] == "refund-1"
    wire.send(examples.notice_delivered("email", "refund", order_id))
    told = await reaches(order_service, order_id, "refunded", entries=6)
    assert [(each["channel"], each["notice"]) for each in told["notifications"]] == [("email", "refund")]
    assert (await cancel(order_service, order_id)).status_code == 202


@pytest.mark.parametrize("events", [(examples.payment_voided,), (examples.payment_stalled, examples.payment_voided)])
async def test_an_order_that_was_not_charged_ends_cancelled(
    order_service: RunningService, wire: Wire, events: tuple[Any, ...]
) -> None:
    order_id = await place(order_service)
    following = asyncio.create_task(streamed(order_service, order_id))
    for event in events[:-1]:
        wire.send(event(order_id))
        await reaches(order_service, order_id, "stalled")
    await cancel(order_service, order_id)
    wire.send(events[-1](order_id))

    order = await reaches(order_service, order_id, "cancelled")
    assert len(await following) == len(order["timeline"]) == len(events) + 2


async def test_what_a_cancellation_would_do_is_told_beforehand(tmp_path: Path) -> None:
    async with running_alone("order_service", tmp_path) as service:
        order_id = await place(service)
        order = await order_of(service, order_id)
        (placed_at, until) = (
            datetime.fromisoformat(each) for each in (order["placed_at"], order["cancellation"]["until"])
        )
        assert until - placed_at == timedelta(seconds=900)
        assert order["cancellation"] | {"until": ""} == {
            "possible": True,
            "until": "",
            "effect": "void",
            "why_not": None,
        }

        assert (await cancel(service, order_id)).status_code == 202  # with the broker away
        after = (await order_of(service, order_id))["cancellation"]
        assert (after["possible"], after["effect"], after["why_not"]) == (False, None, "it is cancelled already")


async def test_a_declined_order_can_not_be_cancelled(order_service: RunningService, wire: Wire) -> None:
    order_id = await place(order_service)
    wire.send(examples.payment_declined(order_id))
    order = await reaches(order_service, order_id, "declined")

    found = problem(await cancel(order_service, order_id), 409)

    assert "declined" in found["detail"]
    assert order["cancellation"]["why_not"] in found["detail"]
    assert (await order_of(order_service, order_id))["timeline"] == order["timeline"]


async def test_after_its_time_an_order_can_not_be_cancelled(tmp_path: Path) -> None:
    async with running_alone("order_service", tmp_path, CANCEL_WITHIN_SECONDS="0") as service:
        order_id = await place(service)
        found = problem(await cancel(service, order_id), 409)
        assert "0 s after it was placed" in found["detail"]
        order = await order_of(service, order_id)
        assert (order["status"], order["cancellation"]["possible"]) == ("placed", False)
        assert order["cancellation"]["why_not"] in found["detail"]


@pytest.mark.parametrize("order_id", ["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55", "nonsense", "..%2F..%2Fetc", "%00"])
async def test_an_unknown_order_can_not_be_cancelled(order_service: RunningService, order_id: str) -> None:
    problem(await cancel(order_service, order_id), 404)

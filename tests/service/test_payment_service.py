"""The payment service alone: each order is charged once, and an event says how it went."""

from typing import Any

import pytest

from shared.events import OrderPlaced, PaymentStalled, PaymentSucceeded
from shared.ids import new_id
from tests.conftest import RETRY_DELAYS_SECONDS
from tests.examples import euros, order_placed
from tests.service.process import RunningService, problem
from tests.service.wire import Wire
from tests.support import eventually

CHARGE = "payment_service.charge"
ATTEMPTS = len(RETRY_DELAYS_SECONDS) + 1


async def payment_of(service: RunningService, placed: OrderPlaced) -> dict[str, Any]:
    payment: dict[str, Any] = (await service.http.get(f"/payments/{placed.subject}")).raise_for_status().json()
    return payment


async def rows_of(service: RunningService, placed: OrderPlaced) -> list[dict[str, Any]]:
    return [row for row in await service.audit() if row["order_id"] == placed.subject]


async def test_a_placed_order_is_charged_and_published(payment_service: RunningService, wire: Wire) -> None:
    placed = order_placed().model_copy(update={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    wire.send(placed)

    event = await wire.event("payments", placed.subject, "payment.succeeded.v1")

    assert isinstance(event, PaymentSucceeded)
    assert (event.data.order, event.data.amount, event.data.attempts) == (placed.data.order, euros(2200), 1)
    payment = await payment_of(payment_service, placed)
    assert payment.pop("at")
    assert payment == {
        "order_id": placed.subject,
        "status": "succeeded",
        "amount": {"amount_minor": 2200, "currency": "EUR"},
        "attempts": 1,
        "charge_id": event.data.charge_id,
        "detail": None,
    }
    assert len(wire.messages("payments", placed.subject)) == 1
    assert (event.traceparent or "").startswith(f"00-{'a' * 32}-")  # the trace goes on


async def test_a_duplicate_delivery_charges_once(payment_service: RunningService, wire: Wire) -> None:
    placed = order_placed()
    duplicates_before = await payment_service.metric("duplicate_deliveries_total", queue=CHARGE)

    wire.send(placed, times=10)

    async def nine_duplicates() -> bool:
        return await payment_service.metric("duplicate_deliveries_total", queue=CHARGE) - duplicates_before == 9

    await eventually(nine_duplicates, expecting="nine duplicates to be counted")
    assert sorted(row["kind"] for row in await rows_of(payment_service, placed)) == ["charge", "payment"]
    await wire.event("payments", placed.subject, "payment.succeeded.v1")
    assert len(wire.messages("payments", placed.subject)) == 1


@pytest.mark.parametrize(
    ("token", "event_type", "kinds"),
    [
        ("tok_declined", "payment.declined.v1", ["payment"]),
        ("tok_flaky", "payment.succeeded.v1", ["charge", "payment"]),
        ("tok_timeout", "payment.succeeded.v1", ["charge", "payment"]),
    ],
)
async def test_a_declined_card_is_not_charged_and_a_failing_gateway_is_asked_until_it_has_charged_once(
    payment_service: RunningService, wire: Wire, token: str, event_type: str, kinds: list[str]
) -> None:
    placed = order_placed(token=token)
    wire.send(placed)

    data = (await wire.event("payments", placed.subject, event_type)).data

    payment, rows = await payment_of(payment_service, placed), await rows_of(payment_service, placed)
    assert sorted(row["kind"] for row in rows) == kinds
    if token == "tok_declined":
        assert (payment["detail"], data.reason, data.attempts) == ("card_declined", "card_declined", 1)
    else:
        (charge,) = (row for row in rows if row["kind"] == "charge")
        assert (charge["charge_id"], charge["type"]) == (data.charge_id, "charge")
        assert charge["amount"] == {"amount_minor": 2200, "currency": "EUR"}


async def test_a_charge_that_never_works_ends_as_a_dead_letter_until_it_is_redriven(
    payment_service: RunningService, wire: Wire
) -> None:
    placed = order_placed(token="tok_broken")
    wire.send(placed)

    event = await wire.event("payments", placed.subject, "payment.stalled.v1")
    message = await wire.dead_letter(CHARGE, placed.id)

    assert isinstance(event, PaymentStalled)
    assert event.data.attempts == ATTEMPTS
    assert "503" in event.data.error
    headers = message.headers
    assert {name: headers[f"dead-letter-{name}"] for name in ("reason", "attempts", "queue", "error")} == {
        "reason": "attempts-exhausted", "attempts": ATTEMPTS, "queue": CHARGE, "error": event.data.error
    }  # fmt: skip
    assert headers["first-seen"] < headers["dead-letter-at"]
    assert message.body == wire.messages("orders", placed.subject)[0].body
    assert (await payment_of(payment_service, placed))["status"] == "stalled"

    repaired = placed.data.model_copy(update={"payment_token": "tok_visa"})
    wire.send(placed.model_copy(update={"data": repaired}))

    await wire.event("payments", placed.subject, "payment.succeeded.v1")
    assert (await payment_of(payment_service, placed))["status"] == "succeeded"


async def test_an_order_without_a_payment_is_not_found(payment_service: RunningService) -> None:
    for order_id in (new_id(), "nonsense", "%00", "a" * 5000):
        found = problem(await payment_service.http.get(f"/payments/{order_id}"), 404)
        assert found["detail"].startswith("order_id: ")

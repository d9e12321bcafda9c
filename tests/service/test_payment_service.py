"""The payment service alone: each order is charged once, and an event says how it went."""

import random
from collections import defaultdict
from typing import Any

import pytest

from shared.events import Event, OrderPlaced, PaymentRefunded, PaymentStalled, PaymentSucceeded, PaymentVoided
from shared.ids import new_id
from tests.conftest import RETRY_DELAYS_SECONDS
from tests.examples import euros, order_cancelled, order_placed
from tests.service.process import OPERATOR, RunningService, problem
from tests.service.wire import Wire
from tests.support import eventually

CHARGE = "payment_service.charge"
ATTEMPTS = 2 * (len(RETRY_DELAYS_SECONDS) + 1)  # a second try at once on each delivery


async def payment_of(service: RunningService, placed: OrderPlaced) -> dict[str, Any]:
    payment: dict[str, Any] = (await service.http.get(f"/payments/{placed.subject}")).raise_for_status().json()
    return payment


async def rows_of(service: RunningService, placed: OrderPlaced) -> list[dict[str, Any]]:
    return [row for row in await service.audit() if row["order_id"] == placed.subject]


async def handled(service: RunningService) -> float:
    """The number of messages that were handled, for good or as dead letters."""
    return sum(
        [
            await service.metric("deliveries_settled_total", queue=CHARGE, outcome=outcome)
            for outcome in ("ack", "deadletter")
        ]
    )


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
        "refund_id": None,
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
    ("token", "event_type", "kinds", "attempts"),
    [
        ("tok_declined", "payment.declined.v1", ["payment"], 1),
        ("tok_flaky", "payment.succeeded.v1", ["charge", "payment"], 3),
        ("tok_timeout", "payment.succeeded.v1", ["charge", "payment"], 2),
    ],
)
async def test_a_declined_card_is_not_charged_and_a_failing_gateway_is_asked_until_it_has_charged_once(
    payment_service: RunningService, wire: Wire, token: str, event_type: str, kinds: list[str], attempts: int
) -> None:
    placed = order_placed(token=token)
    wire.send(placed)

    data = (await wire.event("payments", placed.subject, event_type)).data
    assert data.attempts == attempts  # every try of the gateway
    log = await payment_service.http.get("/deliveries", params={"order_id": placed.subject}, headers=OPERATOR)
    failed = [note["attempt"] for note in log.json()["deliveries"] if note["outcome"] == "retry"]
    assert failed == list(range(1, attempts))

    payment, rows = await payment_of(payment_service, placed), await rows_of(payment_service, placed)
    assert sorted(row["kind"] for row in rows) == kinds
    if token == "tok_declined":
        assert (payment["detail"], data.reason) == ("card_declined", "card_declined")
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


async def test_a_cancelled_order_is_voided_if_it_comes_first_and_refunded_if_it_was_charged(
    payment_service: RunningService, wire: Wire
) -> None:
    first, charged = order_placed(), order_placed()
    wire.send(order_cancelled(first.subject))
    wire.send(charged)
    voided = await wire.event("payments", first.subject, "payment.voided.v1")
    paid = await wire.event("payments", charged.subject, "payment.succeeded.v1")
    assert isinstance(voided, PaymentVoided)
    assert isinstance(paid, PaymentSucceeded)

    wire.send_all([order_cancelled(charged.subject), first])

    refunded = await wire.event("payments", charged.subject, "payment.refunded.v1")
    assert isinstance(refunded, PaymentRefunded)
    assert (refunded.data.order, refunded.data.amount, refunded.data.attempts) == (charged.data.order, euros(2200), 1)
    payment, refund_id = await payment_of(payment_service, charged), refunded.data.refund_id
    assert (payment["status"], payment["refund_id"]) == ("refunded", refund_id)
    assert payment["charge_id"] == paid.data.charge_id
    assert [
        (row["kind"], row.get("status"), row.get("type"), row.get("charge_id"), row["amount"]["amount_minor"])
        for row in await rows_of(payment_service, charged)
    ] == [
        ("payment", "refunded", None, None, 2200),
        ("charge", None, "charge", paid.data.charge_id, 2200),
        ("charge", None, "refund", refund_id, 2200),
    ]
    assert [(row["kind"], row["status"]) for row in await rows_of(payment_service, first)] == [("payment", "voided")]


async def test_a_stalled_order_that_is_cancelled_is_voided_and_a_redrive_charges_nothing(
    payment_service: RunningService, wire: Wire
) -> None:
    placed = order_placed(token="tok_broken")
    wire.send(placed)
    await wire.event("payments", placed.subject, "payment.stalled.v1")
    await wire.dead_letter(CHARGE, placed.id)
    duplicates = await payment_service.metric("duplicate_deliveries_total", queue=CHARGE)

    wire.send(order_cancelled(placed.subject))
    await wire.event("payments", placed.subject, "payment.voided.v1")
    repaired = placed.data.model_copy(update={"payment_token": "tok_visa"})
    wire.send(placed.model_copy(update={"data": repaired}))

    async def is_handled() -> bool:
        return await payment_service.metric("duplicate_deliveries_total", queue=CHARGE) == duplicates + 1

    await eventually(is_handled, expecting="the redriven message to be a duplicate")
    assert [(row["kind"], row["status"]) for row in await rows_of(payment_service, placed)] == [("payment", "voided")]


async def test_a_refund_that_fails_ends_as_a_dead_letter_and_once_repaired_is_finished_by_a_redrive(
    payment_service: RunningService, wire: Wire
) -> None:
    placed = order_placed(token="tok_refund_fails")
    cancelled = order_cancelled(placed.subject)
    wire.send_all([placed, cancelled])

    parked = await wire.dead_letter(CHARGE, cancelled.id)

    address = f"/simulated-gateway/failing-refunds/{placed.subject}"
    assert parked.headers["dead-letter-reason"] == "attempts-exhausted"
    assert address in parked.headers["dead-letter-error"]
    assert (await payment_of(payment_service, placed))["status"] == "succeeded"
    assert [each.type for each in wire.messages("payments", placed.subject)] == ["payment.succeeded.v1"]

    problem(await payment_service.http.delete(address), 401)
    assert [(await payment_service.http.delete(address, headers=OPERATOR)).status_code for _ in range(2)] == [204, 404]
    wire.send(cancelled)
    await wire.event("payments", placed.subject, "payment.refunded.v1")
    types = [row["type"] for row in await rows_of(payment_service, placed) if row["kind"] == "charge"]
    assert types == ["charge", "refund"]


async def test_orders_and_cancellations_shuffled_with_their_repetitions_end_the_same(
    payment_service: RunningService, wire: Wire
) -> None:
    """Many at once, so that the events of an order meet each other within the service."""
    dice, tokens = random.Random(14), ["tok_visa", "tok_timeout", "tok_flaky", "tok_declined", "tok_broken"]
    orders = [order_placed(token=token) for token in tokens for _ in range(20)]
    messages: list[Event] = []
    for placed in orders:
        cancelled = order_cancelled(placed.subject)
        messages += [placed] * dice.randint(1, 3) + [cancelled] * dice.randint(1, 3)
    dice.shuffle(messages)
    before = await handled(payment_service)

    wire.send_all(messages)

    async def all_are_handled() -> bool:
        return await handled(payment_service) == before + len(messages)

    await eventually(all_are_handled, 60, "every message to be handled")
    found: dict[str, list[Any]] = defaultdict(list)
    for row in await payment_service.audit():
        found[row["order_id"]].append(row.get("type") or row["status"])
    ends = {"payment.voided.v1": ["voided"], "payment.refunded.v1": ["refunded", "charge", "refund"]}

    def all_is_published() -> bool:
        for placed in orders:
            types = [str(message.type) for message in wire.messages("payments", placed.subject)]
            assert found[placed.subject] == ends.get(types[-1])
            for each in set(types) - {"payment.stalled.v1"}:  # said again by each delivery that is given up
                assert types.count(each) == 1
        return True

    await eventually(all_is_published, expecting="the last event of each order to say what became of it")


async def test_an_order_without_a_payment_is_not_found(payment_service: RunningService) -> None:
    for order_id in (new_id(), "nonsense", "%00", "a" * 5000):
        found = problem(await payment_service.http.get(f"/payments/{order_id}"), 404)
        assert found["detail"].startswith("order_id: ")

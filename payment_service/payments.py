"""The rules of payments: their states, and the event that tells of each. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TypeVar

from shared.events import (
    Money,
    OrderPlaced,
    PaymentDeclined,
    PaymentDeclinedData,
    PaymentStalled,
    PaymentStalledData,
    PaymentSucceeded,
    PaymentSucceededData,
    Value,
)
from shared.ids import new_id

SOURCE = "payment_service"

PaymentEvent = PaymentSucceeded | PaymentDeclined | PaymentStalled
EventType = TypeVar("EventType", PaymentSucceeded, PaymentDeclined, PaymentStalled)


class Status(StrEnum):
    """Each is final but `stalled`: the charge was given up, and a redrive may still bring an answer."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Charged:
    """The gateway has the money. The same charge id for the same idempotency key, however often it is asked."""

    charge_id: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The gateway will not charge this token; asking again changes nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Payment:
    """What became of one order's charge. `detail`: why it was declined or given up. `event_id`: who tells of it."""

    order_id: str
    status: Status
    amount: Money
    attempts: int
    at: datetime
    event_id: str
    charge_id: str | None = None
    detail: str | None = None


def settled(placed: OrderPlaced, answer: Charged | Declined, attempts: int) -> Payment:
    """The payment that the gateway's answer makes."""
    if isinstance(answer, Charged):
        return _payment(placed, Status.SUCCEEDED, attempts, charge_id=answer.charge_id)
    return _payment(placed, Status.DECLINED, attempts, detail=answer.reason)


def stalled(placed: OrderPlaced, error: str, attempts: int) -> Payment:
    """The payment whose charge was given up."""
    return _payment(placed, Status.STALLED, attempts, detail=error)


def _payment(
    placed: OrderPlaced, status: Status, attempts: int, *, charge_id: str | None = None, detail: str | None = None
) -> Payment:
    total = placed.data.order.total
    return Payment(placed.subject, status, total, attempts, datetime.now(UTC), new_id(), charge_id, detail)


def event_of(payment: Payment, placed: OrderPlaced) -> PaymentEvent:
    """The event that tells of a payment. The same payment always makes the same event."""
    order, attempts = placed.data.order, payment.attempts
    about = partial(_about, payment, placed)
    match payment.status:
        case Status.SUCCEEDED:
            charge_id = payment.charge_id or ""
            data = PaymentSucceededData(order=order, amount=payment.amount, charge_id=charge_id, attempts=attempts)
            return about(PaymentSucceeded, data)
        case Status.DECLINED:
            return about(
                PaymentDeclined, PaymentDeclinedData(order=order, reason=payment.detail or "", attempts=attempts)
            )
        case Status.STALLED:
            return about(PaymentStalled, PaymentStalledData(error=payment.detail or "", attempts=attempts))


def _about(payment: Payment, placed: OrderPlaced, event: type[EventType], data: Value) -> EventType:
    return event.about(
        payment.order_id, source=SOURCE, data=data, id=payment.event_id, time=payment.at, again=placed.again
    )

"""The rules of payments: the gateway's answers, the statuses they lead to, and the event of each. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from payment_service.contract import CONTRACT
from shared.events import (
    Money,
    OrderPlaced,
    PaymentDeclined,
    PaymentDeclinedData,
    PaymentStalled,
    PaymentStalledData,
    PaymentSucceeded,
    PaymentSucceededData,
)
from shared.ids import new_id

SOURCE = CONTRACT.name

PaymentEvent = PaymentSucceeded | PaymentDeclined | PaymentStalled


class PaymentStatus(StrEnum):
    """All are final but `stalled`: after a redrive the gateway may still answer."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Charged:
    """The gateway has the money. The same idempotency key always gets the same charge id."""

    charge_id: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The gateway will not charge this token, however often it is asked."""

    reason: str


@dataclass(frozen=True, slots=True)
class Payment:
    """The result of one order's charge. `detail`: why it was declined or given up. `event_id`: the id of its event."""

    order_id: str
    status: PaymentStatus
    amount: Money
    attempts: int
    at: datetime
    event_id: str
    charge_id: str | None = None
    detail: str | None = None


def payment_of(placed: OrderPlaced, answer: Charged | Declined, attempts: int) -> Payment:
    """The payment for the gateway's answer."""
    if isinstance(answer, Charged):
        return _payment(placed, PaymentStatus.SUCCEEDED, attempts, charge_id=answer.charge_id)
    return _payment(placed, PaymentStatus.DECLINED, attempts, detail=answer.reason)


def stalled(placed: OrderPlaced, error: str, attempts: int) -> Payment:
    """The payment for a charge that was given up."""
    return _payment(placed, PaymentStatus.STALLED, attempts, detail=error)


def _payment(placed: OrderPlaced, status: PaymentStatus, attempts: int, **result: str) -> Payment:
    total = placed.data.order.total
    return Payment(placed.subject, status, total, attempts, datetime.now(UTC), new_id(), **result)


def event_of(payment: Payment, placed: OrderPlaced) -> PaymentEvent:
    """The event of a payment, with the same id each time."""
    order, attempts, detail = placed.data.order, payment.attempts, payment.detail or ""
    about: dict[str, Any] = {"source": SOURCE, "id": payment.event_id, "time": payment.at, "again": placed.again}
    match payment.status:
        case PaymentStatus.SUCCEEDED:
            charge_id = payment.charge_id or ""
            paid = PaymentSucceededData(order=order, amount=payment.amount, charge_id=charge_id, attempts=attempts)
            return PaymentSucceeded.about(payment.order_id, data=paid, **about)
        case PaymentStatus.DECLINED:
            declined = PaymentDeclinedData(order=order, reason=detail, attempts=attempts)
            return PaymentDeclined.about(payment.order_id, data=declined, **about)
        case PaymentStatus.STALLED:
            given_up = PaymentStalledData(error=detail, attempts=attempts)
            return PaymentStalled.about(payment.order_id, data=given_up, **about)

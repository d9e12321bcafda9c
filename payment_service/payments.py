"""The rules of payments: their states, and the event that tells of each. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

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

SOURCE = "payment_service"

PaymentEvent = PaymentSucceeded | PaymentDeclined | PaymentStalled


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
    """What became of one order's charge. `detail`: why it was declined or given up."""

    order_id: str
    status: Status
    amount: Money
    attempts: int
    at: datetime
    charge_id: str | None = None
    detail: str | None = None


def settled(placed: OrderPlaced, answer: Charged | Declined, attempts: int) -> tuple[Payment, PaymentEvent]:
    """The payment that the gateway's answer makes, and its event."""
    order = placed.data.order
    if isinstance(answer, Charged):
        payment = _payment(placed, Status.SUCCEEDED, attempts, charge_id=answer.charge_id)
        data = PaymentSucceededData(order=order, amount=order.total, charge_id=answer.charge_id, attempts=attempts)
        return payment, PaymentSucceeded.about(placed.subject, source=SOURCE, data=data)
    payment = _payment(placed, Status.DECLINED, attempts, detail=answer.reason)
    declined = PaymentDeclinedData(order=order, reason=answer.reason, attempts=attempts)
    return payment, PaymentDeclined.about(placed.subject, source=SOURCE, data=declined)


def stalled(placed: OrderPlaced, error: str, attempts: int) -> tuple[Payment, PaymentEvent]:
    """The payment whose charge was given up, and its event."""
    payment = _payment(placed, Status.STALLED, attempts, detail=error)
    data = PaymentStalledData(error=error, attempts=attempts)
    return payment, PaymentStalled.about(placed.subject, source=SOURCE, data=data)


def _payment(
    placed: OrderPlaced, status: Status, attempts: int, *, charge_id: str | None = None, detail: str | None = None
) -> Payment:
    total = placed.data.order.total
    return Payment(placed.subject, status, total, attempts, datetime.now(UTC), charge_id, detail)

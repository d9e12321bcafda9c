"""The rules of payments: the gateway's answers, the statuses they lead to, and the event of each. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

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

PaymentEvent = PaymentSucceeded | PaymentDeclined | PaymentStalled


class PaymentStatus(StrEnum):
    """All are final but `stalled`: after a redrive the gateway may still answer."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    STALLED = "stalled"


@dataclass(frozen=True)
class Charged:
    """The gateway has the money. The same idempotency key always gets the same charge id."""

    status: ClassVar = PaymentStatus.SUCCEEDED
    charge_id: str


@dataclass(frozen=True)
class Declined:
    """The gateway will not charge this token, however often it is asked."""

    status: ClassVar = PaymentStatus.DECLINED
    detail: str


@dataclass(frozen=True)
class GivenUp:
    """The gateway gave no answer, however often it was asked."""

    status: ClassVar = PaymentStatus.STALLED
    detail: str


@dataclass(frozen=True)
class Payment:
    """The result of one order's charge. `detail`: why it was declined or given up. `event_id`: the id of its event."""

    order_id: str
    status: PaymentStatus
    amount_minor: int
    currency: str
    attempts: int
    at: datetime
    event_id: str
    charge_id: str | None = None
    detail: str | None = None

    @property
    def amount(self) -> Money:
        return Money(amount_minor=self.amount_minor, currency=self.currency)


def payment_of(placed: OrderPlaced, answer: Charged | Declined | GivenUp, attempts: int) -> Payment:
    """The payment for the gateway's answer, or for none."""
    order_id, total = placed.subject, placed.data.order.total
    about = (total.amount_minor, total.currency, attempts, datetime.now(UTC), new_id())
    return Payment(order_id, answer.status, *about, **vars(answer))


def event_of(payment: Payment, placed: OrderPlaced) -> PaymentEvent:
    """The event of a payment, with the same id each time."""
    order, attempts, detail = placed.data.order, payment.attempts, payment.detail or ""
    about: dict[str, Any] = {
        "source": CONTRACT.name, "id": payment.event_id, "time": payment.at, "again": placed.again
    }  # fmt: skip
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

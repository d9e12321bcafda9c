"""The rules of payments: the gateway's answers, the statuses they lead to, and the event of each. No I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from payment_service.contract import CONTRACT
from shared.events import (
    Money,
    OrderCancelled,
    OrderPlaced,
    PaymentDeclined,
    PaymentDeclinedData,
    PaymentRefunded,
    PaymentRefundedData,
    PaymentStalled,
    PaymentStalledData,
    PaymentSucceeded,
    PaymentSucceededData,
    PaymentVoided,
    PaymentVoidedData,
)
from shared.ids import new_id

OrderEvent = OrderPlaced | OrderCancelled
PaymentEvent = PaymentSucceeded | PaymentDeclined | PaymentStalled | PaymentVoided | PaymentRefunded


class PaymentStatus(StrEnum):
    """`voided`: cancelled before it was charged. `stalled`: given up for now, a redrive may still bring an answer."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    STALLED = "stalled"
    VOIDED = "voided"
    REFUNDED = "refunded"


REPLACES: Mapping[str, Collection[str]] = {
    PaymentStatus.SUCCEEDED: {PaymentStatus.STALLED},
    PaymentStatus.DECLINED: {PaymentStatus.STALLED},
    PaymentStatus.STALLED: {PaymentStatus.STALLED},
    PaymentStatus.VOIDED: {PaymentStatus.STALLED, PaymentStatus.DECLINED},
    PaymentStatus.REFUNDED: {PaymentStatus.SUCCEEDED, PaymentStatus.VOIDED},
}
"""The statuses that each may replace. So a charge, a cancellation and their repetitions may come in any order: a charge
whose order is voided meanwhile is not recorded as succeeded, and its handler sees that it has to be refunded. A charge
that is given up again, after a redrive, says so again."""


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
class Voided:
    """The order was cancelled, and the gateway has not charged it."""

    status: ClassVar = PaymentStatus.VOIDED


@dataclass(frozen=True)
class Refunded:
    """The gateway has paid the charge back. The same idempotency key always gets the same refund id."""

    status: ClassVar = PaymentStatus.REFUNDED
    charge_id: str
    refund_id: str


Answer = Charged | Declined | GivenUp | Voided | Refunded


@dataclass(frozen=True)
class Payment:
    """What became of one order's charge. `attempts`: of its last step. `event_id`: the id of its event.

    `detail`: why the charge was declined or given up.
    """

    order_id: str
    status: PaymentStatus
    amount_minor: int
    currency: str
    attempts: int
    at: datetime
    event_id: str
    charge_id: str | None = None
    refund_id: str | None = None
    detail: str | None = None

    @property
    def amount(self) -> Money:
        return Money(amount_minor=self.amount_minor, currency=self.currency)


def payment_of(cause: OrderEvent, answer: Answer, attempts: int) -> Payment:
    """The payment for the gateway's answer, or for none."""
    order_id, total = cause.subject, cause.data.order.total
    about = (total.amount_minor, total.currency, attempts, datetime.now(UTC), new_id())
    return Payment(order_id, answer.status, *about, **vars(answer))


def event_of(payment: Payment, cause: OrderEvent) -> PaymentEvent:
    """The event of a payment, with the same id each time."""
    order, attempts, detail = cause.data.order, payment.attempts, payment.detail or ""
    about: dict[str, Any] = {
        "source": CONTRACT.name, "id": payment.event_id, "time": payment.at, "again": cause.again
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
        case PaymentStatus.VOIDED:
            return PaymentVoided.about(payment.order_id, data=PaymentVoidedData(order=order), **about)
        case PaymentStatus.REFUNDED:
            refund_id = payment.refund_id or ""
            back = PaymentRefundedData(order=order, amount=payment.amount, refund_id=refund_id, attempts=attempts)
            return PaymentRefunded.about(payment.order_id, data=back, **about)

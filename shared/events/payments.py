"""The events that the payment service publishes."""

from typing import Literal

from pydantic import Field

from shared.events.envelope import Event, Money, Value
from shared.events.orders import OrderSummary


class PaymentSucceededData(Value):
    order: OrderSummary
    amount: Money
    charge_id: str
    attempts: int = Field(ge=1)


class PaymentDeclinedData(Value):
    order: OrderSummary
    reason: str
    attempts: int = Field(ge=1)


class PaymentStalledData(Value):
    error: str
    attempts: int = Field(ge=1)


class PaymentVoidedData(Value):
    order: OrderSummary


class PaymentRefundedData(Value):
    order: OrderSummary
    amount: Money
    refund_id: str
    attempts: int = Field(ge=1)


class PaymentSucceeded(Event):
    """The order was charged."""

    type: Literal["payment.succeeded.v1"] = "payment.succeeded.v1"
    data: PaymentSucceededData


class PaymentDeclined(Event):
    """The gateway refused the payment token; nothing was charged."""

    type: Literal["payment.declined.v1"] = "payment.declined.v1"
    data: PaymentDeclinedData


class PaymentStalled(Event):
    """The charge was given up for now: a dead letter says why, and a redrive may bring an answer, or this once more."""

    type: Literal["payment.stalled.v1"] = "payment.stalled.v1"
    data: PaymentStalledData


class PaymentVoided(Event):
    """The order was cancelled before it was charged: nothing was charged, and nothing will be."""

    type: Literal["payment.voided.v1"] = "payment.voided.v1"
    data: PaymentVoidedData


class PaymentRefunded(Event):
    """The order was cancelled after it was charged: the money is back."""

    type: Literal["payment.refunded.v1"] = "payment.refunded.v1"
    data: PaymentRefundedData

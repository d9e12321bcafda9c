"""The events that the order service publishes, and what they carry of an order."""

from typing import Literal

from pydantic import Field

from shared.events.envelope import Event, Money, Value


class OrderItem(Value):
    """One line of an order at the price of the menu when it was placed."""

    sku: str
    name: str
    quantity: int = Field(ge=1, le=1_000_000)
    unit_price: Money


class OrderSummary(Value):
    """What those who serve an order need to know of it; carried in the events, so that nobody has to ask."""

    customer_email: str
    customer_phone: str | None = None
    customer_push: str | None = None
    items: tuple[OrderItem, ...]
    total: Money


class OrderPlacedData(Value):
    order: OrderSummary
    payment_token: str


class OrderPlaced(Event):
    """An order was accepted and is to be charged."""

    type: Literal["order.placed.v1"] = "order.placed.v1"
    data: OrderPlacedData


class OrderCancelledData(Value):
    order: OrderSummary
    reason: Literal["customer", "payment-timeout"]


class OrderCancelled(Event):
    """An order was cancelled: it is not to be charged any more, and what was charged is to be paid back."""

    type: Literal["order.cancelled.v1"] = "order.cancelled.v1"
    data: OrderCancelledData

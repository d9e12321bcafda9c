"""Events and values as the services would make them, for tests that need one and do not care which."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from shared.events import (
    Event,
    Money,
    NotificationData,
    NotificationDelivered,
    NotificationFailed,
    NotificationFailedData,
    OrderCancelled,
    OrderCancelledData,
    OrderItem,
    OrderPlaced,
    OrderPlacedData,
    OrderSummary,
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
from shared.testing.examples import any_event

EventType = TypeVar("EventType", bound=Event)

EMAIL = "ada@example.com"
PHONE = "+4915112345678"


def euros(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency="EUR")


def order_summary(*, email: str = EMAIL, phone: str | None = None, push: str | None = None) -> OrderSummary:
    """Two pizzas and a cola: 22.00 EUR."""
    return OrderSummary(
        customer_email=email,
        customer_phone=phone,
        customer_push=push,
        items=(
            OrderItem(sku="margherita", name="Pizza Margherita", quantity=2, unit_price=euros(950)),
            OrderItem(sku="cola", name="Cola 0.33 l", quantity=1, unit_price=euros(300)),
        ),
        total=euros(2200),
    )


def order_placed(order_id: str | None = None, *, token: str = "tok_visa", **customer: Any) -> OrderPlaced:
    data = OrderPlacedData(order=order_summary(**customer), payment_token=token)
    order_id = order_id or new_id()
    return OrderPlaced.about(order_id, id=order_id, source="order_service", data=data)


def order_cancelled(order_id: str | None = None, **customer: Any) -> OrderCancelled:
    data = OrderCancelledData(order=order_summary(**customer), reason="customer")
    return OrderCancelled.about(order_id or new_id(), source="order_service", data=data)


def payment_succeeded(order_id: str | None = None, **customer: Any) -> PaymentSucceeded:
    data = PaymentSucceededData(order=order_summary(**customer), amount=euros(2200), charge_id="charge-1", attempts=1)
    return PaymentSucceeded.about(order_id or new_id(), source="payment_service", data=data)


def payment_declined(order_id: str | None = None, **customer: Any) -> PaymentDeclined:
    data = PaymentDeclinedData(order=order_summary(**customer), reason="card_declined", attempts=1)
    return PaymentDeclined.about(order_id or new_id(), source="payment_service", data=data)


def payment_stalled(order_id: str | None = None) -> PaymentStalled:
    data = PaymentStalledData(error="the gateway answers 503 Service Unavailable", attempts=3)
    return PaymentStalled.about(order_id or new_id(), source="payment_service", data=data)


def payment_voided(order_id: str | None = None, **customer: Any) -> PaymentVoided:
    data = PaymentVoidedData(order=order_summary(**customer))
    return PaymentVoided.about(order_id or new_id(), source="payment_service", data=data)


def payment_refunded(order_id: str | None = None, **customer: Any) -> PaymentRefunded:
    data = PaymentRefundedData(order=order_summary(**customer), amount=euros(2200), refund_id="refund-1", attempts=1)
    return PaymentRefunded.about(order_id or new_id(), source="payment_service", data=data)


def notice_delivered(channel: str, notice: str, order_id: str | None = None) -> NotificationDelivered:
    data = NotificationData(channel=channel, notice=notice, attempts=1)
    return NotificationDelivered.about(order_id or new_id(), source="notification_service", data=data)


receipt_delivered = partial(notice_delivered, "email", "receipt")
decline_delivered = partial(notice_delivered, "email", "decline")
ticket_delivered = partial(notice_delivered, "restaurant", "kitchen_ticket")
text_delivered = partial(notice_delivered, "sms", "receipt")


def receipt_failed(order_id: str | None = None) -> NotificationFailed:
    data = NotificationFailedData(channel="email", notice="receipt", attempts=3, error="the mail server is away")
    return NotificationFailed.about(order_id or new_id(), source="notification_service", data=data)


_MAKERS: dict[type[Event], Callable[[], Event]] = {
    OrderPlaced: order_placed,
    OrderCancelled: order_cancelled,
    PaymentSucceeded: payment_succeeded,
    PaymentDeclined: payment_declined,
    PaymentStalled: payment_stalled,
    PaymentVoided: payment_voided,
    PaymentRefunded: payment_refunded,
    NotificationDelivered: receipt_delivered,
    NotificationFailed: receipt_failed,
}


def example_of(event: type[EventType]) -> EventType:
    """An event of this class; of one that is not above, with any values."""
    return cast(EventType, _MAKERS[event]()) if event in _MAKERS else any_event(event)

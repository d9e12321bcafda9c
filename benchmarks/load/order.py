"""The order that everyone is asked for, and the events that Order Rail makes of it."""

import json

from order_service.orders import OrderRequest, price
from shared.events import (
    NotificationData,
    NotificationDelivered,
    OrderPlaced,
    OrderPlacedData,
    PaymentSucceeded,
    PaymentSucceededData,
    encode,
)
from shared.ids import new_id
from shared.observability.tracing import start_span

ORDER = json.dumps(
    {
        "customer_email": "ada@example.com",
        "items": [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}],
        "payment_token": "tok_visa",
    }
).encode()
SUMMARY = price(OrderRequest.model_validate_json(ORDER))


def order_event() -> bytes:
    """`order.placed.v1` on the wire."""
    start_span(None)
    data = OrderPlacedData(order=SUMMARY, payment_token="tok_visa")
    return encode(OrderPlaced.about(new_id(), source="order_service", data=data))


def payment_event() -> bytes:
    """`payment.succeeded.v1` on the wire."""
    start_span(None)
    data = PaymentSucceededData(order=SUMMARY, amount=SUMMARY.total, charge_id=new_id(), attempts=1)
    return encode(PaymentSucceeded.about(new_id(), source="payment_service", data=data))


def delivered_event() -> bytes:
    """`notification.delivered.v1` on the wire."""
    start_span(None)
    data = NotificationData(channel="restaurant", notice="kitchen_ticket", attempts=1)
    return encode(NotificationDelivered.about(new_id(), source="notification_service", data=data))

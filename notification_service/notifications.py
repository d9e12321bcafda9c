"""Who is told what: pure functions from an event to a letter. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from shared.events import (
    Channel,
    Money,
    Notice,
    NotificationData,
    NotificationDelivered,
    NotificationFailed,
    NotificationFailedData,
    OrderItem,
    OrderSummary,
    PaymentDeclined,
    PaymentSucceeded,
)
from shared.ids import new_id

SOURCE = "notification_service"

Telling = PaymentSucceeded | PaymentDeclined
"""The events that somebody is told of."""


class Status(StrEnum):
    """`failed`: given up for now; a redrive may still deliver it."""

    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Letter:
    """What one channel says to one recipient about an order."""

    order_id: str
    channel: Channel
    notice: Notice
    recipient: str
    subject: str
    text: str

    @property
    def idempotency_key(self) -> str:
        """The same for every delivery of the same event: nobody is told the same thing twice."""
        return f"{self.order_id}/{self.channel}/{self.notice}"


@dataclass(frozen=True, slots=True)
class Notification:
    """What became of a letter."""

    idempotency_key: str
    order_id: str
    channel: str
    notice: str
    status: Status
    attempts: int
    at: datetime
    event_id: str
    error: str | None = None


def outcome(letter: Letter, attempts: int, *, error: str | None = None) -> Notification:
    """What became of a letter: it was delivered, or, with an `error`, given up."""
    return Notification(
        idempotency_key=letter.idempotency_key,
        order_id=letter.order_id,
        channel=letter.channel,
        notice=letter.notice,
        status=Status.DELIVERED if error is None else Status.FAILED,
        attempts=attempts,
        at=datetime.now(UTC),
        event_id=new_id(),
        error=error,
    )


def event_of(
    notification: Notification, *, again: Literal[True] | None = None
) -> NotificationDelivered | NotificationFailed:
    """The event that tells of a notification. The same notification always makes the same event."""
    told = {"channel": notification.channel, "notice": notification.notice, "attempts": notification.attempts}
    about: dict[str, Any] = {"source": SOURCE, "id": notification.event_id, "time": notification.at, "again": again}
    if notification.status is Status.FAILED:
        failed = NotificationFailedData.model_validate({**told, "error": notification.error or ""})
        return NotificationFailed.about(notification.order_id, data=failed, **about)
    return NotificationDelivered.about(notification.order_id, data=NotificationData.model_validate(told), **about)


def email(event: Telling) -> Letter | None:
    """A receipt, or word that the payment was declined."""
    order = event.data.order
    if isinstance(event, PaymentSucceeded):
        subject, text = f"Your order is confirmed ({amount(order.total)})", _receipt(event.subject, order)
        return Letter(event.subject, "email", "receipt", order.customer_email, subject, text)
    text = (
        f"Your order {event.subject} over {amount(order.total)} could not be paid: {event.data.reason}.\n"
        "Nothing was charged. You are welcome to order again with another means of payment.\n"
    )
    return Letter(event.subject, "email", "decline", order.customer_email, "Your payment was declined", text)


def sms(event: Telling) -> Letter | None:
    """The same in one line, if the customer left a number."""
    order = event.data.order
    if order.customer_phone is None:
        return None
    if isinstance(event, PaymentSucceeded):
        text = f"Order confirmed, {amount(order.total)} paid. Thank you!"
        return Letter(event.subject, "sms", "receipt", order.customer_phone, "", text)
    text = f"Your payment of {amount(order.total)} was declined. Nothing was charged."
    return Letter(event.subject, "sms", "decline", order.customer_phone, "", text)


def restaurant(event: Telling) -> Letter | None:
    """The kitchen ticket of a paid order."""
    if not isinstance(event, PaymentSucceeded):
        return None
    ticket = "".join(f"{item.quantity:>3} x {item.name}\n" for item in event.data.order.items)
    return Letter(event.subject, "restaurant", "kitchen_ticket", "kitchen", f"Order {event.subject}", ticket)


def amount(money: Money) -> str:
    """As people write it: `23.50 EUR`. Two decimals, as every currency on the menu has."""
    return _amount(money.amount_minor, money.currency)


def _amount(minor: int, currency: str) -> str:
    return f"{minor // 100}.{minor % 100:02d} {currency}"


def _receipt(order_id: str, order: OrderSummary) -> str:
    lines = [f"{item.quantity:>3} x {item.name:<30} {_line_amount(item):>14}\n" for item in order.items]
    total = f"{'Total':<36} {amount(order.total):>14}\n"
    return f"Thank you for your order {order_id}.\n\n{''.join(lines)}\n{total}\nIt is paid, and the kitchen knows.\n"


def _line_amount(item: OrderItem) -> str:
    """Not a `Money`: the product of two legal values may be above its bound, and must not fail a letter."""
    return _amount(item.unit_price.amount_minor * item.quantity, item.unit_price.currency)

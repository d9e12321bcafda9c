"""The rules of notifications: the notice that each channel makes of a payment event, and its result. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from notification_service.contract import CONTRACT
from shared.events import (
    ChannelName,
    Money,
    NoticeKind,
    NotificationData,
    NotificationDelivered,
    NotificationFailed,
    NotificationFailedData,
    OrderSummary,
    PaymentDeclined,
    PaymentSucceeded,
)
from shared.ids import new_id

PaymentOutcome = PaymentSucceeded | PaymentDeclined


class NotificationStatus(StrEnum):
    """`failed` is not final: a redrive may still deliver the notice."""

    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Notice:
    """A text to one recipient over one channel."""

    order_id: str
    channel: ChannelName
    kind: NoticeKind
    recipient: str
    subject: str
    text: str

    @property
    def idempotency_key(self) -> str:
        """The same for every delivery of an event, so that its notice is sent once."""
        return f"{self.order_id}/{self.channel}/{self.kind}"


@dataclass(frozen=True)
class Notification:
    """The result of sending a notice. `notice` is the notice's kind."""

    idempotency_key: str
    order_id: str
    channel: ChannelName
    notice: NoticeKind
    status: NotificationStatus
    attempts: int
    at: datetime
    event_id: str
    error: str | None = None


def notification_of(notice: Notice, attempts: int, *, error: str | None = None) -> Notification:
    """The result of a notice that was delivered, or, with an `error`, given up."""
    about = (notice.idempotency_key, notice.order_id, notice.channel, notice.kind)
    status = NotificationStatus.DELIVERED if error is None else NotificationStatus.FAILED
    return Notification(*about, status, attempts, datetime.now(UTC), new_id(), error)


def event_of(notification: Notification, cause: PaymentOutcome) -> NotificationDelivered | NotificationFailed:
    """The event of a notification, with the same id each time; re-emitted if its cause was."""
    about: dict[str, Any] = {
        "source": CONTRACT.name, "id": notification.event_id, "time": notification.at, "again": cause.again
    }  # fmt: skip
    data: dict[str, Any] = {name: getattr(notification, name) for name in NotificationData.model_fields}
    if notification.status is NotificationStatus.DELIVERED:
        return NotificationDelivered.about(notification.order_id, data=NotificationData(**data), **about)
    failed = NotificationFailedData(**data, error=notification.error or "")
    return NotificationFailed.about(notification.order_id, data=failed, **about)


def email(event: PaymentOutcome) -> Notice | None:
    """A receipt, or a message that the payment was declined."""
    order = event.data.order
    if isinstance(event, PaymentSucceeded):
        subject, text = f"Your order is confirmed ({amount(order.total)})", _receipt(event.subject, order)
        return Notice(event.subject, "email", "receipt", order.customer_email, subject, text)
    text = (
        f"Your order {event.subject} over {amount(order.total)} could not be paid: {event.data.reason}.\n"
        "Nothing was charged. You are welcome to order again with another means of payment.\n"
    )
    return Notice(event.subject, "email", "decline", order.customer_email, "Your payment was declined", text)


def sms(event: PaymentOutcome) -> Notice | None:
    """The same in one line, if the customer left a number."""
    return _line("sms", event.data.order.customer_phone, event)


def push(event: PaymentOutcome) -> Notice | None:
    """The same line to the customer's device, if the customer left its address."""
    return _line("push", event.data.order.customer_push, event)


def _line(channel: ChannelName, recipient: str | None, event: PaymentOutcome) -> Notice | None:
    if recipient is None:
        return None
    total = amount(event.data.order.total)
    if isinstance(event, PaymentSucceeded):
        return Notice(event.subject, channel, "receipt", recipient, "", f"Order confirmed, {total} paid. Thank you!")
    text = f"Your payment of {total} was declined. Nothing was charged."
    return Notice(event.subject, channel, "decline", recipient, "", text)


def restaurant(event: PaymentOutcome) -> Notice | None:
    """The kitchen ticket of a paid order."""
    if not isinstance(event, PaymentSucceeded):
        return None
    ticket = "".join(f"{item.quantity:>3} x {item.name}\n" for item in event.data.order.items)
    return Notice(event.subject, "restaurant", "kitchen_ticket", "kitchen", f"Order {event.subject}", ticket)


WRITERS: Mapping[str, Callable[[PaymentOutcome], Notice | None]] = {
    "email": email,
    "sms": sms,
    "push": push,
    "restaurant": restaurant,
}


def amount(money: Money, quantity: int = 1) -> str:
    """As text, such as `23.50 EUR`: two decimals, as every currency on the menu has."""
    minor = money.amount_minor * quantity  # may exceed the bound of a `Money`
    return f"{minor // 100}.{minor % 100:02d} {money.currency}"


def _receipt(order_id: str, order: OrderSummary) -> str:
    items = ((item, amount(item.unit_price, item.quantity)) for item in order.items)
    lines = "".join(f"{item.quantity:>3} x {item.name:<30} {price:>14}\n" for item, price in items)
    total = f"{'Total':<36} {amount(order.total):>14}\n"
    return f"Thank you for your order {order_id}.\n\n{lines}\n{total}\nIt is paid, and the kitchen knows.\n"

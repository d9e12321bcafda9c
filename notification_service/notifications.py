"""The rules of notifications: the notice that each channel makes of an event, and its result. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

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
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
)
from shared.ids import new_id

PaymentOutcome = PaymentSucceeded | PaymentDeclined | PaymentVoided | PaymentRefunded


class NotificationStatus(StrEnum):
    """`failed` is not final: a redrive may still deliver the notice."""

    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Notice:
    """What one recipient is to be told over one channel; `templates.py` puts it into words.

    `amount`: what was paid, declined or given back. `reason`: of a decline.
    """

    order_id: str
    channel: ChannelName
    kind: NoticeKind
    recipient: str
    order: OrderSummary
    amount: Money
    reason: str = ""

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

    @property
    def is_delivered(self) -> bool:
        return self.status is NotificationStatus.DELIVERED


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


_CUSTOMERS: Mapping[type[PaymentOutcome], NoticeKind] = {
    PaymentSucceeded: "receipt",
    PaymentDeclined: "decline",
    PaymentVoided: "cancellation",
    PaymentRefunded: "refund",
}
KINDS: Mapping[ChannelName, Mapping[type[PaymentOutcome], NoticeKind]] = {
    "email": _CUSTOMERS,
    "sms": _CUSTOMERS,
    "push": _CUSTOMERS,
    "restaurant": {PaymentSucceeded: "kitchen_ticket", PaymentRefunded: "kitchen_stop"},
}
"""The kind of notice that each channel makes of an event."""

_LATER: Mapping[NoticeKind, tuple[NoticeKind, ...]] = {
    "receipt": ("refund", "cancellation"),
    "decline": ("refund", "cancellation"),
    "cancellation": ("refund",),  # a charge that was found after all
    "kitchen_ticket": ("kitchen_stop",),
}
"""The notices after which one is out of date, latest first: it would tell what is not true any more."""


def notice_of(channel: ChannelName, event: PaymentOutcome) -> Notice | None:
    """The notice of an event over a channel; None if there is nothing to say, or nobody to say it to."""
    kind, order = KINDS[channel].get(type(event)), event.data.order
    recipient = _recipient(channel, order)
    if kind is None or recipient is None:
        return None
    amount = event.data.amount if isinstance(event, PaymentSucceeded | PaymentRefunded) else order.total
    reason = event.data.reason if isinstance(event, PaymentDeclined) else ""
    return Notice(event.subject, channel, kind, recipient, order, amount, reason)


def _recipient(channel: ChannelName, order: OrderSummary) -> str | None:
    match channel:
        case "email":
            return order.customer_email
        case "sms":
            return order.customer_phone
        case "push":
            return order.customer_push
        case "restaurant":
            return "kitchen"


def turn_of(idempotency_key: str) -> str:
    """Notices of the same order over the same channel take turns, so that a later one never overtakes another."""
    return idempotency_key.rpartition("/")[0]


def later_keys(idempotency_key: str) -> list[str]:
    """The keys of the notices that make this one out of date, latest first."""
    about, _, kind = idempotency_key.rpartition("/")
    return [f"{about}/{later}" for later in _LATER.get(cast("NoticeKind", kind), ())]


def amount(money: Money, quantity: int = 1) -> str:
    """As text, such as `23.50 EUR`: two decimals, as every currency on the menu has."""
    minor = money.amount_minor * quantity  # may exceed the bound of a `Money`
    return f"{minor // 100}.{minor % 100:02d} {money.currency}"

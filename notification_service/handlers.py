"""What the notification service does with a payment: each channel tells those who should know, once."""

from collections.abc import Callable, Mapping

from notification_service import notifications, store
from notification_service.channels import NotificationChannel
from notification_service.contract import CONTRACT
from notification_service.notifications import Notice, Notification, PaymentOutcome, event_of, notification_of
from shared.effects import Once
from shared.events import NotificationDelivered, NotificationFailed, PaymentDeclined, PaymentSucceeded
from shared.messaging.processor import Subscription
from shared.persistence.database import Database

WRITERS: Mapping[str, Callable[[PaymentOutcome], Notice | None]] = {
    "email": notifications.email,
    "sms": notifications.sms,
    "restaurant": notifications.restaurant,
}


class Notifying:
    """One notice over one channel. Dying between sending and recording sends it again: the outside world has no part
    in our commit."""

    def __init__(self, channel: NotificationChannel, notice: Notice, event: PaymentOutcome) -> None:
        self.key = notice.idempotency_key
        self._channel = channel
        self._notice = notice
        self._event = event

    async def perform(self, attempt: int) -> Notification:
        await self._channel.send(self._notice)
        return notification_of(self._notice, attempt)

    def given_up(self, attempts: int, error: str) -> Notification:
        return notification_of(self._notice, attempts, error=error)

    def event_of(self, notification: Notification) -> NotificationDelivered | NotificationFailed:
        return event_of(notification, again=self._event.again)


def subscriptions(database: Database, channels: Mapping[str, NotificationChannel]) -> list[Subscription]:
    """One for each channel by its name."""
    return [_subscription(name, database, channel) for name, channel in channels.items()]


def _subscription(name: str, database: Database, channel: NotificationChannel) -> Subscription:
    write = WRITERS[name]

    def effect_of(event: PaymentOutcome) -> Notifying | None:
        notice = write(event)
        return None if notice is None else Notifying(channel, notice, event)

    once = Once(database, store.records, effect_of)
    return Subscription(
        queue=CONTRACT.queue_name(name),
        concurrency=channel.concurrency,
        handlers={PaymentSucceeded: once.handle, PaymentDeclined: once.handle},
        give_up=once.give_up,
    )

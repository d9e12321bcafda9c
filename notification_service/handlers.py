"""The notification service's handlers: each channel sends its notice of a payment event, once."""

from collections.abc import Mapping
from dataclasses import dataclass

from notification_service import store
from notification_service.channels import NotificationChannel
from notification_service.contract import CONTRACT
from notification_service.notifications import (
    WRITERS,
    Notice,
    Notification,
    NotificationStatus,
    PaymentOutcome,
    event_of,
    notification_of,
)
from shared.effects import Once
from shared.events import Event, NotificationDelivered, NotificationFailed, PaymentDeclined, PaymentSucceeded
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


@dataclass(frozen=True)
class Notifying:
    """One notice over one channel. A crash between sending and recording sends it twice: channels know no keys."""

    channel: NotificationChannel
    notice: Notice
    event: PaymentOutcome

    @property
    def key(self) -> str:
        return self.notice.idempotency_key

    def is_done(self, known: Notification | None) -> bool:
        return known is not None and known.status is NotificationStatus.DELIVERED

    async def perform(self, known: Notification | None, attempt: int) -> Notification:
        await self.channel.send(self.notice)
        return notification_of(self.notice, attempt)

    def given_up(self, attempts: int, error: str) -> Notification:
        return notification_of(self.notice, attempts, error=error)

    def event_of(self, notification: Notification) -> NotificationDelivered | NotificationFailed:
        return event_of(notification, self.event)


def subscriptions(database: Database, channels: Mapping[str, NotificationChannel]) -> list[Subscription]:
    """One for each channel by its name."""
    return [_subscription(name, database, channel) for name, channel in channels.items()]


def _subscription(name: str, database: Database, channel: NotificationChannel) -> Subscription:
    def effect_of(event: Event) -> Notifying | None:
        if not isinstance(event, PaymentSucceeded | PaymentDeclined):
            return None  # nothing is written about a cancellation yet
        notice = WRITERS[name](event)
        return None if notice is None else Notifying(channel, notice, event)

    once = Once(database, store.records, effect_of)
    events = [event for event in CONTRACT.queue(name).takes if isinstance(event, type)]
    return once.subscription(CONTRACT.queue_name(name), channel.concurrency, *events)

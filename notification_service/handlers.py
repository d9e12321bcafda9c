"""The notification service's handlers: each channel sends its notice of a payment event, once, and none too late."""

from collections.abc import Mapping
from dataclasses import dataclass

from notification_service import store
from notification_service.channels import NotificationChannel
from notification_service.contract import CONTRACT
from notification_service.notifications import (
    Notice,
    Notification,
    PaymentOutcome,
    event_of,
    notice_of,
    notification_of,
    turn_of,
)
from shared.breaker import Breaker
from shared.effects import Once
from shared.events import ChannelName, NotificationDelivered, NotificationFailed
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


@dataclass(frozen=True)
class Notifying:
    """One notice over one channel. A crash between sending and recording sends it twice: channels know no keys."""

    channel: NotificationChannel
    breaker: Breaker
    notice: Notice
    event: PaymentOutcome

    @property
    def key(self) -> str:
        return self.notice.idempotency_key

    def is_done(self, known: Notification | None) -> bool:
        """Also once a later notice was recorded, sent or given up: this one is out of date."""
        return known is not None and (known.idempotency_key != self.key or known.is_delivered)

    async def perform(self, known: Notification | None, attempt: int) -> Notification:
        await self.breaker.call(self.channel.send, self.notice)
        return notification_of(self.notice, attempt)

    def given_up(self, attempts: int, error: str) -> Notification:
        return notification_of(self.notice, attempts, error=error)

    def event_of(self, notification: Notification) -> NotificationDelivered | NotificationFailed:
        return event_of(notification, self.event)


def subscriptions(
    database: Database, channels: Mapping[ChannelName, NotificationChannel], breakers: Mapping[ChannelName, Breaker]
) -> list[Subscription]:
    """One for each channel by its name."""
    return [_subscription(name, database, channel, breakers[name]) for name, channel in channels.items()]


def _subscription(
    name: ChannelName, database: Database, channel: NotificationChannel, breaker: Breaker
) -> Subscription:
    def effect_of(event: PaymentOutcome) -> Notifying | None:
        notice = notice_of(name, event)
        return None if notice is None else Notifying(channel, breaker, notice, event)

    once = Once(database, store.records, effect_of, turn_of)
    events = [event for event in CONTRACT.queue(name).takes if isinstance(event, type)]
    return once.subscription(CONTRACT.queue_name(name), channel.concurrency, *events)

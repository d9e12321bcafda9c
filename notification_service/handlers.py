"""What the notification service does with a payment: each channel tells those who should know, once."""

from collections.abc import Callable, Mapping

from notification_service import notifications, store
from notification_service.channels import Channel
from notification_service.contract import CONTRACT
from notification_service.notifications import Letter, Notification, Telling, event_of, outcome
from shared.effects import Once
from shared.events import NotificationDelivered, NotificationFailed, PaymentDeclined, PaymentSucceeded
from shared.messaging.processor import Subscription
from shared.persistence.database import Database

WRITERS: Mapping[str, Callable[[Telling], Letter | None]] = {
    "email": notifications.email,
    "sms": notifications.sms,
    "restaurant": notifications.restaurant,
}


class Notifying:
    """One letter over one channel. Dying between sending and recording sends it again: the outside world has no part
    in our commit."""

    def __init__(self, channel: Channel, letter: Letter, event: Telling) -> None:
        self.key = letter.idempotency_key
        self._channel = channel
        self._letter = letter
        self._event = event

    async def perform(self, attempt: int) -> Notification:
        await self._channel.send(self._letter)
        return outcome(self._letter, attempt)

    def given_up(self, attempts: int, error: str) -> Notification:
        return outcome(self._letter, attempts, error=error)

    def told_by(self, notification: Notification) -> NotificationDelivered | NotificationFailed:
        return event_of(notification, again=self._event.again)


def subscriptions(database: Database, channels: Mapping[str, Channel]) -> list[Subscription]:
    """One for each channel by its name."""
    return [_subscription(name, database, channel) for name, channel in channels.items()]


def _subscription(name: str, database: Database, channel: Channel) -> Subscription:
    write = WRITERS[name]

    def effect_of(event: Telling) -> Notifying | None:
        letter = write(event)
        return None if letter is None else Notifying(channel, letter, event)

    once = Once(database, store.records, effect_of)
    return Subscription(
        queue=CONTRACT.queue_name(name),
        concurrency=channel.concurrency,
        handlers={PaymentSucceeded: once.handle, PaymentDeclined: once.handle},
        give_up=once.give_up,
    )

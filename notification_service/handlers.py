"""What the notification service does with a payment: each channel tells those who should know, once."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from notification_service import notifications, store
from notification_service.channels import Channel
from notification_service.notifications import SOURCE, Letter, Notification, Status, Telling
from notification_service.store import Recording
from shared.events import (
    NotificationData,
    NotificationDelivered,
    NotificationFailed,
    NotificationFailedData,
    PaymentDeclined,
    PaymentSucceeded,
)
from shared.messaging.consumer import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.persistence.database import Database

CONCURRENCY = 100
"""Letters under way in each channel at once."""

WRITERS: Mapping[str, Callable[[Telling], Letter | None]] = {
    "email": notifications.email,
    "sms": notifications.sms,
    "restaurant": notifications.restaurant,
}


class Notifying:
    """One channel: writes the letter, sends it, then records that and its event in one commit."""

    def __init__(self, database: Database, write: Callable[[Telling], Letter | None], channel: Channel) -> None:
        self._database = database
        self._write = write
        self._channel = channel

    async def notify(self, event: Telling, attempt: int) -> Ack:
        """Dying between sending and recording sends again: the outside world has no part in our commit."""
        letter = self._write(event)
        if letter is None:
            return DONE
        if await self._database.read(store.delivered, letter.idempotency_key):
            return DUPLICATE
        await self._channel.send(letter)
        is_new = await self._database.write(store.record, _delivered(letter, attempt))
        return DONE if is_new else DUPLICATE

    async def give_up(self, event: Telling, attempts: int, error: str) -> None:
        """Let everyone know that this one was not told, before the message becomes a dead letter."""
        letter = self._write(event)
        if letter is not None:
            await self._database.write(store.record, _failed(letter, attempts, error))


def _delivered(letter: Letter, attempts: int) -> Recording:
    data = NotificationData(channel=letter.channel, notice=letter.notice, attempts=attempts)
    event = NotificationDelivered.about(letter.order_id, source=SOURCE, data=data)
    return Recording(_notification(letter, Status.DELIVERED, attempts), event)


def _failed(letter: Letter, attempts: int, error: str) -> Recording:
    data = NotificationFailedData(channel=letter.channel, notice=letter.notice, attempts=attempts, error=error)
    event = NotificationFailed.about(letter.order_id, source=SOURCE, data=data)
    return Recording(_notification(letter, Status.FAILED, attempts), event)


def _notification(letter: Letter, status: Status, attempts: int) -> Notification:
    return Notification(
        idempotency_key=letter.idempotency_key,
        order_id=letter.order_id,
        channel=letter.channel,
        notice=letter.notice,
        status=status,
        attempts=attempts,
        at=datetime.now(UTC),
    )


def subscriptions(database: Database, channels: Mapping[str, Channel]) -> list[Subscription]:
    """One for each channel by its name."""
    return [_subscription(name, Notifying(database, WRITERS[name], channel)) for name, channel in channels.items()]


def _subscription(name: str, notifying: Notifying) -> Subscription:
    return Subscription(
        queue=f"notification_service.{name}",
        concurrency=CONCURRENCY,
        handlers={PaymentSucceeded: notifying.notify, PaymentDeclined: notifying.notify},
        give_up=notifying.give_up,
    )

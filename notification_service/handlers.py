"""What the notification service does with a payment: each channel tells those who should know, once."""

from collections.abc import Callable, Mapping

from notification_service import notifications, store
from notification_service.channels import Channel
from notification_service.notifications import Letter, Notification, Status, Telling, event_of, outcome
from notification_service.store import Recording
from shared.events import PaymentDeclined, PaymentSucceeded
from shared.messaging.processor import Subscription
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
        known = await self._database.look_up(store.get, letter.idempotency_key)
        if known is not None and known.status is Status.DELIVERED:
            await self._tell_again(known, event)
            return DUPLICATE
        await self._channel.send(letter)
        is_new = await self._record(outcome(letter, attempt))
        return DONE if is_new else DUPLICATE

    async def give_up(self, event: Telling, attempts: int, error: str) -> None:
        """Let everyone know that this one was not told, before the message becomes a dead letter."""
        letter = self._write(event)
        if letter is None or await self._record(outcome(letter, attempts, error=error)):
            return
        known = await self._database.look_up(store.get, letter.idempotency_key)
        await self._tell_again(known, event)

    async def _record(self, notification: Notification) -> bool:
        return await self._database.write(store.record, Recording(notification, event_of(notification)))

    async def _tell_again(self, known: Notification | None, event: Telling) -> None:
        """If the sweep asks: word of the notification may have been lost on the way to the order."""
        if event.again and known is not None:
            await self._database.write(store.tell_again, event_of(known, again=True))


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

"""What the herald service does with an event, once an order: `shared/effects.py` takes the steps."""

from herald_service import store
from herald_service.contract import CONTRACT
from herald_service.events import HeraldAnnounced
from herald_service.herald import Entry, entry_of, event_of
from shared.effects import Once
from shared.events import PaymentSucceeded
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


class Work:
    """What an event asks for. The order id is the idempotency key."""

    def __init__(self, event: PaymentSucceeded) -> None:
        self._event, self.key = event, event.subject

    def is_done(self, known: Entry | None) -> bool:
        return known is not None

    async def perform(self, known: Entry | None, attempt: int) -> Entry:
        """An effect on the outside world goes here, under `self.key`; it may raise `TransientError` to be repeated."""
        return entry_of(self._event)

    def given_up(self, attempts: int, error: str) -> None:
        """No entry: the dead letter says why, and a redrive goes on."""

    def event_of(self, entry: Entry) -> HeraldAnnounced:
        return event_of(entry, self._event)


def subscriptions(database: Database, concurrency: int) -> list[Subscription]:
    once = Once(database, store.records, Work)
    return [once.subscription(CONTRACT.queue_name("work"), concurrency, PaymentSucceeded)]

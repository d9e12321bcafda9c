"""What the greeting service does with an event, once a greeting: `shared/effects.py` takes the steps."""

from greeting_service import store
from greeting_service.contract import CONTRACT
from greeting_service.events import GreetingRequested, GreetingWritten
from greeting_service.greetings import WRITTEN, Greeting, event_of, written
from shared.effects import Once
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


class Write:
    """What `greeting.requested.v1` asks for. The greeting's id is the idempotency key."""

    def __init__(self, event: GreetingRequested) -> None:
        self._event, self.key = event, event.subject

    def is_done(self, known: Greeting | None) -> bool:
        return known is not None and known.status == WRITTEN

    async def perform(self, known: Greeting | None, attempt: int) -> Greeting:
        """A call of another system goes here, under `self.key`; it may raise `TransientError` to be repeated."""
        return written(self._event)

    def given_up(self, attempts: int, error: str) -> None:
        """No record: the dead letter says why, and a redrive goes on."""

    def event_of(self, greeting: Greeting) -> GreetingRequested | GreetingWritten:
        return event_of(greeting, self._event)


def subscriptions(database: Database, concurrency: int) -> list[Subscription]:
    once = Once(database, store.greetings, Write)
    return [once.subscription(CONTRACT.queue_name("write"), concurrency, GreetingRequested)]

"""What the diary service does with an event: it makes an entry, once an order."""

from diary_service import store
from diary_service.contract import CONTRACT
from diary_service.diary import entry_of
from shared.events import PaymentSucceeded
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.persistence.database import Database


def subscriptions(database: Database, concurrency: int) -> list[Subscription]:
    async def handle(event: PaymentSucceeded, attempt: int) -> Ack:
        return DONE if await database.write(store.record, entry_of(event)) else DUPLICATE

    return [Subscription(CONTRACT.queue_name("work"), handlers={PaymentSucceeded: handle}, concurrency=concurrency)]

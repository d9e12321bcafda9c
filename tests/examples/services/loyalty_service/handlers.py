"""What the loyalty service does with a payment: it credits points, once an order."""

from loyalty_service import store
from loyalty_service.contract import CONTRACT
from loyalty_service.points import earned
from shared.events import PaymentSucceeded
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.persistence.database import Database


def subscriptions(database: Database) -> list[Subscription]:
    async def earn(event: PaymentSucceeded, attempt: int) -> Ack:
        return DONE if await database.write(store.record, earned(event)) else DUPLICATE

    return [Subscription(CONTRACT.queue_name("earn"), handlers={PaymentSucceeded: earn}, concurrency=100)]

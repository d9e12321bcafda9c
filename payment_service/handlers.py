"""What the payment service does with a placed order: it charges it, once."""

from functools import partial

from payment_service import store
from payment_service.gateway import Gateway
from payment_service.payments import Payment, PaymentEvent, event_of, settled, stalled
from shared.effects import Once
from shared.events import OrderPlaced
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


class Charging:
    """The charge of one placed order. Its key is the order id, for the gateway too: it answers the second time as the
    first."""

    def __init__(self, gateway: Gateway, placed: OrderPlaced) -> None:
        self.key = placed.subject
        self._gateway = gateway
        self._placed = placed

    async def perform(self, attempt: int) -> Payment:
        data = self._placed.data
        answer = await self._gateway.charge(self.key, data.payment_token, data.order.total)
        return settled(self._placed, answer, attempt)

    def given_up(self, attempts: int, error: str) -> Payment:
        return stalled(self._placed, error, attempts)

    def told_by(self, payment: Payment) -> PaymentEvent:
        return event_of(payment, self._placed)


def subscriptions(database: Database, gateway: Gateway, concurrency: int) -> list[Subscription]:
    once = Once(database, store.records, partial(Charging, gateway))
    return [
        Subscription(
            queue="payment_service.charge",
            concurrency=concurrency,
            handlers={OrderPlaced: once.handle},
            give_up=once.give_up,
        )
    ]

"""The payment service's handler: a placed order is charged, once."""

from dataclasses import dataclass
from functools import partial

from payment_service import store
from payment_service.contract import CONTRACT
from payment_service.gateways import Gateway
from payment_service.payments import GivenUp, Payment, PaymentEvent, event_of, payment_of
from shared.effects import Once
from shared.events import OrderPlaced
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


@dataclass(frozen=True)
class Charging:
    """The charge of one placed order. Its key is the order id, for the gateway too."""

    gateway: Gateway
    placed: OrderPlaced

    @property
    def key(self) -> str:
        return self.placed.subject

    async def perform(self, attempt: int) -> Payment:
        data = self.placed.data
        answer = await self.gateway.charge(self.key, data.payment_token, data.order.total)
        return payment_of(self.placed, answer, attempt)

    def given_up(self, attempts: int, error: str) -> Payment:
        return payment_of(self.placed, GivenUp(error), attempts)

    def event_of(self, payment: Payment) -> PaymentEvent:
        return event_of(payment, self.placed)


def subscriptions(database: Database, gateway: Gateway, concurrency: int) -> list[Subscription]:
    once = Once(database, store.records, partial(Charging, gateway))
    return [once.subscription(CONTRACT.queue_name("charge"), concurrency, OrderPlaced)]

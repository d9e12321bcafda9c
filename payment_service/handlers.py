"""What the payment service does with a placed order: it charges it, once."""

import asyncio
from functools import partial

from payment_service import store
from payment_service.contract import CONTRACT
from payment_service.gateways import Gateway
from payment_service.payments import Charged, Declined, Payment, PaymentEvent, event_of, payment_of, stalled
from shared.effects import Once
from shared.events import OrderPlaced
from shared.messaging.processor import Subscription
from shared.messaging.retry import OutcomeUnknown
from shared.persistence.database import Database


class Charging:
    """The charge of one placed order. Its key is the order id, for the gateway too: it answers the second time as the
    first."""

    def __init__(self, gateway: Gateway, answer_seconds: float, placed: OrderPlaced) -> None:
        self.key = placed.subject
        self._gateway = gateway
        self._answer_seconds = answer_seconds
        self._placed = placed

    async def perform(self, attempt: int) -> Payment:
        return payment_of(self._placed, await self._ask(), attempt)

    async def _ask(self) -> Charged | Declined:
        data = self._placed.data
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._gateway.charge(self.key, data.payment_token, data.order.total)
        except TimeoutError:
            raise OutcomeUnknown(f"no answer from the gateway within {self._answer_seconds:g} s") from None

    def given_up(self, attempts: int, error: str) -> Payment:
        return stalled(self._placed, error, attempts)

    def event_of(self, payment: Payment) -> PaymentEvent:
        return event_of(payment, self._placed)


def subscriptions(database: Database, gateway: Gateway, answer_seconds: float, concurrency: int) -> list[Subscription]:
    once = Once(database, store.records, partial(Charging, gateway, answer_seconds))
    return [
        Subscription(
            queue=CONTRACT.queue_name("charge"),
            concurrency=concurrency,
            handlers={OrderPlaced: once.handle},
            give_up=once.give_up,
        )
    ]

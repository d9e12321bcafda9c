"""The payment service's handler: a placed order is charged, a cancelled one is voided or refunded, each once.

Both events may come repeatedly, in any order and at the same time: `STEPS` says what is to be done by what is recorded,
and `REPLACES` which record may follow on which.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import cast

from payment_service import store
from payment_service.contract import CONTRACT
from payment_service.gateways import Gateway
from payment_service.payments import (
    Answer,
    Charged,
    Declined,
    GivenUp,
    OrderEvent,
    Payment,
    PaymentEvent,
    PaymentStatus,
    Refunded,
    Voided,
    event_of,
    payment_of,
)
from shared.effects import Once
from shared.events import OrderCancelled, OrderPlaced
from shared.messaging.processor import Subscription
from shared.persistence.database import Database


class Paying:
    """What an event asks of the gateway. The order id is the key of the payment, and of the charge at the gateway."""

    def __init__(self, gateway: Gateway, event: OrderEvent) -> None:
        self._gateway, self._event = gateway, event
        self._amount = event.data.order.total
        self.key = event.subject

    def is_done(self, known: Payment | None) -> bool:
        return _status(known) not in STEPS[type(self._event)]

    async def perform(self, known: Payment | None, attempt: int) -> Payment | None:
        step = STEPS[type(self._event)][_status(known)]
        answer = await step(self, known)
        return None if answer is None else payment_of(self._event, answer, attempt)

    def given_up(self, attempts: int, error: str) -> Payment | None:
        """A cancellation that was given up changes nothing: its dead letter says why, and a redrive goes on."""
        return payment_of(self._event, GivenUp(error), attempts) if isinstance(self._event, OrderPlaced) else None

    def event_of(self, payment: Payment) -> PaymentEvent:
        return event_of(payment, self._event)

    async def charge(self, _known: Payment | None) -> Charged | Declined:
        token = cast(OrderPlaced, self._event).data.payment_token
        return await self._gateway.charge(self.key, token, self._amount)

    async def void_unless_charged(self, _known: Payment | None) -> Voided | Charged:
        """The charge may be there although nothing is recorded: its answer was lost, or another replica has it."""
        return await self._gateway.find(self.key) or Voided()

    async def void(self, _known: Payment | None) -> Voided:
        return Voided()

    async def refund(self, known: Payment | None) -> Refunded:
        return await self._pay_back(Charged(cast(Payment, known).charge_id or ""))

    async def refund_if_charged(self, _known: Payment | None) -> Refunded | None:
        """Voided, but a charge may have gone through meanwhile, or before its answer was lost."""
        charge = await self._gateway.find(self.key)
        return None if charge is None else await self._pay_back(charge)

    async def _pay_back(self, charge: Charged) -> Refunded:
        return await self._gateway.refund(f"{self.key}/refund", charge, self._amount)


def _status(known: Payment | None) -> PaymentStatus | None:
    return None if known is None else known.status


Step = Callable[[Paying, Payment | None], Awaitable[Answer | None]]

STEPS: Mapping[type[OrderEvent], Mapping[PaymentStatus | None, Step]] = {
    OrderPlaced: {
        None: Paying.charge,
        PaymentStatus.STALLED: Paying.charge,
        PaymentStatus.VOIDED: Paying.refund_if_charged,
    },
    OrderCancelled: {
        None: Paying.void_unless_charged,
        PaymentStatus.STALLED: Paying.void_unless_charged,
        PaymentStatus.DECLINED: Paying.void,
        PaymentStatus.SUCCEEDED: Paying.refund,
        # Between the question and the record another replica's charge may have lost its answer and been given up.
        PaymentStatus.VOIDED: Paying.refund_if_charged,
    },
}
"""What each event has to do, by the status of the recorded payment. With any other status nothing is left to do."""


def subscriptions(database: Database, gateway: Gateway, concurrency: int) -> list[Subscription]:
    once = Once(database, store.records, partial(Paying, gateway))
    return [once.subscription(CONTRACT.queue_name("charge"), concurrency, OrderPlaced, OrderCancelled)]

"""What the payment service does with a placed order: it charges it, once."""

from payment_service import store
from payment_service.gateway import Gateway
from payment_service.payments import Payment, Status, event_of, settled, stalled
from payment_service.store import Recording
from shared.events import OrderPlaced
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack
from shared.persistence.database import Database


class Charging:
    """Asks the gateway, then records the payment and its event in one commit."""

    def __init__(self, database: Database, gateway: Gateway) -> None:
        self._database = database
        self._gateway = gateway

    async def charge(self, placed: OrderPlaced, attempt: int) -> Ack:
        """Dying anywhere in here is safe: the gateway knows the order id and answers the second time as the first."""
        known = await self._database.look_up(store.get, placed.subject)
        if known is not None and known.status is not Status.STALLED:
            await self._tell_again(known, placed)
            return DUPLICATE
        answer = await self._gateway.charge(placed.subject, placed.data.payment_token, placed.data.order.total)
        is_new = await self._record(settled(placed, answer, attempt), placed)
        return DONE if is_new else DUPLICATE

    async def give_up(self, placed: OrderPlaced, attempts: int, error: str) -> None:
        """Let everyone know that the order is stalled, before its message becomes a dead letter."""
        if not await self._record(stalled(placed, error, attempts), placed):
            await self._tell_again(await self._database.read(store.get, placed.subject), placed)

    async def _record(self, payment: Payment, placed: OrderPlaced) -> bool:
        return await self._database.write(store.record, Recording(payment, event_of(payment, placed)))

    async def _tell_again(self, known: Payment | None, placed: OrderPlaced) -> None:
        """If the sweep asks: word of the payment may have been lost on the way to the order."""
        if placed.again and known is not None:
            await self._database.write(store.tell_again, event_of(known, placed))


def subscriptions(charging: Charging, concurrency: int) -> list[Subscription]:
    return [
        Subscription(
            queue="payment_service.charge",
            concurrency=concurrency,
            handlers={OrderPlaced: charging.charge},
            give_up=charging.give_up,
        )
    ]

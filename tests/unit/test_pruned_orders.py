"""A late event about an order whose records are pruned does nothing: nobody is charged twice."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import pytest
import pytest_asyncio

from payment_service import store
from payment_service.contract import CONTRACT
from payment_service.gateways.simulated import SimulatedGateway
from payment_service.gateways.simulated import store as ledger
from payment_service.handlers import Paying
from payment_service.payments import Payment
from shared.assemble import _without_pruned
from shared.effects import Once
from shared.events import Event, OrderPlaced
from shared.http.prune import Prunable
from shared.ids import first_id
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack, PermanentError
from shared.persistence.database import Database
from shared.persistence.milestones import PRUNED_BEFORE, Milestone, reach
from tests import examples
from tests.support import create_tables, new_database, ready

JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
LIMIT = 100


class Payments(NamedTuple):
    """The payment service's records and its gateway, without its queue."""

    database: Database
    gateway: SimulatedGateway
    once: Once[Payment]

    async def prune(self) -> list[int]:
        """As `POST /prune` does it: how many rows of each table."""
        await self.database.write(reach, Milestone(PRUNED_BEFORE, JULY))
        prunables = [Prunable(self.database, store.prune), *self.gateway.prunables]
        return [(await prunable.delete(first_id(JULY), LIMIT)).records for prunable in prunables]


@pytest_asyncio.fixture
async def payments(database_url: str) -> AsyncIterator[Payments]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(ready(new_database(database_url, store.metadata, name="payments")))
        create_tables(database_url, ledger.metadata)
        gateway = await stack.enter_async_context(ready(SimulatedGateway(database_url, 0)))
        yield Payments(database, gateway, Once(database, store.records, partial(Paying, gateway)))


async def test_an_order_is_not_charged_again_once_its_payment_is_pruned(payments: Payments) -> None:
    placed, handle = examples.order_placed(first_id(JUNE)), payments.once.handle
    assert (await handle(placed, 1), await handle(placed, 1)) == (DONE, DUPLICATE)

    assert await payments.prune() == [1, 1, 0, 0]

    # Not by the guard of `assemble`, which looks before the handler does: the records may go in between.
    for late in (placed, examples.order_cancelled(placed.subject)):
        with pytest.raises(PermanentError, match="pruned"):
            await handle(late, 1)
    assert await payments.gateway.find(placed.subject) is None
    assert await payments.database.read(store.records.get, placed.subject) is None


async def test_the_gateway_forgets_attempts_and_failing_refunds_too(payments: Payments) -> None:
    for number, token in enumerate(("tok_flaky", "tok_refund_fails")):
        placed = examples.order_placed(first_id(JUNE.replace(day=2 + number)), token=token)
        for attempt in (1, 2, 3):
            try:
                await payments.once.handle(placed, attempt)
            except Exception as error:  # noqa: BLE001 - the first attempts with a flaky card
                assert "closed the connection" in str(error)  # noqa: PT017

    assert await payments.prune() == [2, 2, 1, 1]
    assert await payments.prune() == [0, 0, 0, 0]


async def test_no_service_handles_or_gives_up_what_is_about_a_pruned_order(payments: Payments) -> None:
    seen: list[tuple[str, Event]] = []

    async def handle(event: Event, _attempt: int) -> Ack:
        seen.append(("handled", event))
        return DONE

    async def give_up(event: Event, _attempts: int, _error: str) -> bool:
        seen.append(("given up", event))
        return False

    plain = Subscription(CONTRACT.queue_name("charge"), {OrderPlaced: handle}, 1, give_up)
    guarded = _without_pruned(plain, payments.database)
    assert guarded.give_up is not None
    old, young = examples.order_placed(first_id(JUNE)), examples.order_placed()
    await payments.prune()

    assert await guarded.handlers[OrderPlaced](young, 1) is DONE
    assert await guarded.give_up(young, 3, "why") is False
    with pytest.raises(PermanentError):
        await guarded.handlers[OrderPlaced](old, 1)
    assert await guarded.give_up(old, 1, "why") is True  # it is parked, and nothing is recorded

    assert seen == [("handled", young), ("given up", young)]

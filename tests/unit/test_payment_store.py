"""The payment service's table: one payment an order, and its event in the same commit."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy import Connection

from payment_service import store
from payment_service.payments import Charged, Declined, Payment, PaymentStatus, event_of, payment_of, stalled
from shared.effects import Recording
from shared.events import Event, OrderPlaced, decode
from shared.persistence.database import Database
from shared.persistence.pages import Page
from tests import examples
from tests.support import start_ready


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, store.metadata, name="payments")
    await start_ready(database)
    yield database
    await database.stop()


async def told(database: Database) -> list[Event]:
    def read(connection: Connection, limits: list[int]) -> list[list[Event]]:
        return [[decode(row.message.body) for row in store.outbox.waiting(connection, limit)] for limit in limits]

    return await database.read(read, 100)


def recording(payment: Payment, placed: OrderPlaced) -> Recording[Payment]:
    return Recording(payment, event_of(payment, placed))


async def test_a_payment_and_its_event_are_written_together_and_once(database: Database) -> None:
    placed = examples.order_placed()
    first = recording(payment_of(placed, Charged("charge-1"), 2), placed)
    second = recording(payment_of(placed, Charged("x"), 3), placed)

    written = await asyncio.gather(*(database.write(store.record, each) for each in (first, second)))

    assert written == [True, False]
    assert not await database.write(store.record, second)
    assert await database.read(store.get, placed.subject) == first.record
    assert await told(database) == [first.event]


async def test_a_stalled_payment_goes_on_to_an_answer_and_never_back(database: Database) -> None:
    placed = examples.order_placed()
    given_up = recording(stalled(placed, "the gateway is away", 4), placed)
    declined = recording(payment_of(placed, Declined("card_declined"), 5), placed)

    assert await database.write(store.record, given_up)
    assert not await database.write(store.record, given_up)
    assert await database.write(store.record, declined)
    assert not await database.write(store.record, given_up)

    payment = await database.read(store.get, placed.subject)
    assert payment is not None
    assert (payment.status, payment.detail, payment.attempts) == (PaymentStatus.DECLINED, "card_declined", 5)
    assert [event.type for event in await told(database)] == ["payment.stalled.v1", "payment.declined.v1"]


async def test_an_order_without_a_payment_has_none(database: Database) -> None:
    assert await database.read(store.get, examples.order_placed().subject) is None


async def test_the_audit_walks_every_payment_once_oldest_order_first(database: Database) -> None:
    orders = [examples.order_placed() for _ in range(7)]
    for placed in reversed(orders):
        await database.write(store.record, recording(payment_of(placed, Charged("charge"), 1), placed))

    walked: list[str] = []
    while rows := await database.read(store.pages, Page(walked[-1] if walked else None, 3)):
        walked += [row.order_id for row in rows]

    assert walked == [placed.subject for placed in orders]

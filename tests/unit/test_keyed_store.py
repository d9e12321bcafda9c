"""The records of payments and notifications: a first delivery writes record and event, a second finds them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import product
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
import sqlalchemy
from sqlalchemy import Column, MetaData, String, Table

import notification_service.store
import payment_service.store
from notification_service import notifications
from notification_service.notifications import Notification, notification_of
from payment_service import payments
from payment_service.payments import (
    REPLACES,
    Answer,
    Charged,
    Declined,
    GivenUp,
    Payment,
    PaymentStatus,
    Refunded,
    Voided,
    payment_of,
)
from shared.events import ChannelName
from shared.ids import new_id
from shared.persistence.database import Database
from shared.persistence.keyed import KeyedStore, Recording
from shared.persistence.one_of import one_of
from shared.persistence.outbox import Outbox
from shared.persistence.pages import Page
from tests import examples
from tests.support import new_database, outbox_events, ready

CHANNELS: tuple[ChannelName, ...] = ("email", "restaurant", "sms")


ANSWERS: dict[PaymentStatus, Answer] = {
    answer.status: answer
    for answer in (Charged("charge"), Declined("no"), GivenUp("down"), Voided(), Refunded("charge", "refund"))
}


def made(order_id: str, answer: Answer) -> Recording[Payment]:
    placed = examples.order_placed(order_id)
    return Recording(recorded := payment_of(placed, answer, 1), payments.event_of(recorded, placed))


def payment(order_id: str, by: int, error: str | None) -> Recording[Payment]:
    return made(order_id, Charged(f"charge-{by}") if error is None else GivenUp(error))


def notification(
    order_id: str, by: int = 1, error: str | None = None, channel: ChannelName = "email"
) -> Recording[Notification]:
    paid = examples.payment_succeeded(order_id, phone=examples.PHONE)
    notice = notifications.notice_of(channel, paid)
    assert notice is not None
    made = notification_of(notice, by, error=error)
    return Recording(made, notifications.event_of(made, paid))


class Case(NamedTuple):
    """A service's store. `make` takes an order id, a number that tells records apart, and the error if it gave up."""

    records: KeyedStore[Any]
    outbox: Outbox
    metadata: Any
    make: Callable[[str, int, str | None], Recording[Any]]
    key: Callable[[str], str]


CASES = {
    "payment": Case(
        payment_service.store.records,
        payment_service.store.outbox,
        payment_service.store.metadata,
        payment,
        lambda order_id: order_id,
    ),
    "notification": Case(
        notification_service.store.records,
        notification_service.store.outbox,
        notification_service.store.metadata,
        notification,
        lambda order_id: f"{order_id}/email/receipt",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest_asyncio.fixture
async def database(database_url: str, case: Case) -> AsyncIterator[Database]:
    async with ready(new_database(database_url, case.metadata, name="records")) as database:
        yield database


async def write(database: Database, case: Case, *recordings: Recording[Any]) -> list[bool]:
    """In one batch."""
    return await asyncio.gather(*(database.write(case.records.record, recording) for recording in recordings))


async def test_a_record_and_its_event_are_written_together_and_once(database: Database, case: Case) -> None:
    order_id, other_id = new_id(), new_id()
    first, other = case.make(order_id, 1, None), case.make(other_id, 2, None)
    repeats = [case.make(order_id, number, None) for number in range(3, 9)]

    assert await write(database, case, first, *repeats, other) == [True, *[False] * len(repeats), True]
    assert await write(database, case, repeats[0]) == [False]
    assert await database.read(case.records.get, case.key(order_id)) == first.record
    assert await database.read(case.records.get, case.key(new_id())) is None
    assert await outbox_events(database, case.outbox) == [first.event, other.event]


async def test_work_that_was_given_up_may_still_be_done_and_never_undone(database: Database, case: Case) -> None:
    order_id = new_id()
    given_up, done = case.make(order_id, 1, "the server is away"), case.make(order_id, 2, None)

    for recording, is_new in ((given_up, True), (given_up, False), (done, True), (given_up, False), (done, False)):
        assert await write(database, case, recording) == [is_new]

    assert await database.read(case.records.get, case.key(order_id)) == done.record
    assert await outbox_events(database, case.outbox) == [given_up.event, done.event]


@pytest.mark.parametrize("done_first", [True, False])
async def test_in_one_batch_done_wins_over_given_up(database: Database, case: Case, done_first: bool) -> None:
    order_id = new_id()
    recordings = [case.make(order_id, 1, None), case.make(order_id, 2, "no answer")]

    written = await write(database, case, *(recordings if done_first else reversed(recordings)))

    assert written == [done_first, not done_first]
    assert await database.read(case.records.get, case.key(order_id)) == recordings[0].record


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_a_payment_replaces_one_whose_status_makes_way_and_no_other(
    database_url: str, in_one_batch: bool
) -> None:
    case, order_ids = CASES["payment"], {pair: new_id() for pair in product(PaymentStatus, repeat=2)}
    first, second = (
        [made(order_id, ANSWERS[pair[number]]) for pair, order_id in order_ids.items()] for number in range(2)
    )
    async with ready(new_database(database_url, case.metadata, name="payments")) as database:
        batches = [[*first, *second]] if in_one_batch else [first, second]
        written = [each for batch in batches for each in await write(database, case, *batch)]
        found = await asyncio.gather(*(database.read(case.records.get, order_id) for order_id in order_ids.values()))

    replaced = [old in REPLACES[new] for old, new in order_ids]
    assert written[len(order_ids) :] == replaced
    statuses = [each and each.status for each in found]
    assert statuses == [pair[is_new] for pair, is_new in zip(order_ids, replaced, strict=True)]


async def test_two_replicas_at_once_record_a_key_once(database: Database, database_url: str, case: Case) -> None:
    order_ids = [new_id() for _ in range(50)]
    async with ready(new_database(database_url, case.metadata, name="replica")) as replica:
        recordings = [[case.make(order_id, by, None) for order_id in order_ids] for by in (1, 2)]
        first, second = await asyncio.gather(
            *(write(each, case, *made) for each, made in zip((database, replica), recordings, strict=True))
        )

    assert [one != other for one, other in zip(first, second, strict=True)] == [True] * len(order_ids)
    for order_id, is_first, *made in zip(order_ids, first, *recordings, strict=True):
        assert await database.read(case.records.get, case.key(order_id)) == made[0 if is_first else 1].record


async def test_the_audit_walks_every_record_once_oldest_order_first(database: Database, case: Case) -> None:
    order_ids = [new_id() for _ in range(7)]
    for order_id in reversed(order_ids):
        await write(database, case, case.make(order_id, 1, None))

    walked: list[Any] = []
    pages = case.records.pages
    while rows := await database.read(pages, Page(pages.key_of(walked[-1]) if walked else None, 3)):
        walked += rows

    assert [row.order_id for row in walked] == order_ids


async def test_an_order_has_its_own_notifications_and_no_others(database_url: str) -> None:
    store, order_id, other_id = notification_service.store, new_id(), new_id()
    made = [notification(order_id, channel=channel) for channel in CHANNELS] + [notification(other_id)]
    async with ready(new_database(database_url, store.metadata, name="notifications")) as database:
        await write(database, CASES["notification"], *made)

        found = await database.read(store.of_orders, order_id)
        assert [(each.order_id, each.channel) for each in found] == [
            (order_id, channel) for channel in ("email", "restaurant", "sms")
        ]
        assert await database.read(store.of_orders, new_id()) == []


def test_a_look_up_by_keys_uses_the_index_on_sqlite() -> None:
    metadata = MetaData()
    table = Table("things", metadata, Column("id", String, primary_key=True), Column("text", String))
    engine = sqlalchemy.create_engine("sqlite://")
    metadata.create_all(engine)
    query = str(sqlalchemy.select(table).where(one_of(table.c.id, "ids")).compile(engine))
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", ('["a"]',)).all()
    assert plan[0][3].startswith("SEARCH things"), plan

"""A COMMIT went through and its answer was lost: what is there counts, and nobody is told that it failed."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, Table, func, select

import notification_service.store
import order_service.store
import payment_service.gateways.simulated.store
import payment_service.store
from notification_service.notifications import email, notification_of
from notification_service.notifications import event_of as notification_event
from order_service.orders import SweepDelays, timeline_entry
from order_service.store import Placement, Report, Tracked
from payment_service.gateways.simulated.store import Charge
from payment_service.payments import Charged, event_of, payment_of
from shared.ids import new_id
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from shared.persistence import database as database_module
from shared.persistence import transactions
from shared.persistence.database import Database
from shared.persistence.failures import CommitUnknown
from shared.persistence.keyed import Recording
from shared.persistence.relay import OutboxRelay
from shared.settings import BrokerSettings
from tests import examples
from tests.amqp import arrivals, queue_of
from tests.cut import Cut, cut_in_front_of
from tests.postgres import PrivatePostgres
from tests.service.process import RunningService, running
from tests.support import eventually, start_ready

CROWD = 19
SWEEP_DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "restaurant"), 60.0))


@asynccontextmanager
async def opened(postgres: PrivatePostgres, metadata: MetaData) -> AsyncIterator[tuple[Database, Cut]]:
    async with cut_in_front_of(postgres.create_database()) as (cut, url):
        database = Database(url, metadata, name=f"cut-{uuid.uuid4().hex[:8]}")
        await start_ready(database)
        yield database, cut
        await database.stop()


async def count(database: Database, *tables: Table) -> list[int]:
    def rows(connection: Connection, wanted: list[tuple[Table, ...]]) -> list[list[int]]:
        (tables,) = wanted
        return [[connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]]

    return await database.read(rows, tables)


@pytest.mark.parametrize("key", [None, "a-key"])
@pytest.mark.parametrize("orders", [1, CROWD])
async def test_placed_orders_are_found_and_stand_for_themselves(
    postgres: PrivatePostgres, orders: int, key: str | None
) -> None:
    store = order_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        placements = [Placement(examples.order_placed(), key and f"{key}-{n}", "asked") for n in range(orders)]
        cut.cuts = 1
        placed = await asyncio.gather(*(database.write(store.place, each) for each in placements))

        assert cut.done == 1
        assert [each.order_id for each in placed] == [each.event.subject for each in placements]
        assert await count(database, store.orders, store.outbox.table) == [orders, orders]
        assert await count(database, store.duplicates) == [0]


async def test_a_lost_answer_to_the_question_whether_it_was_committed_is_asked_again(
    postgres: PrivatePostgres,
) -> None:
    store = order_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        placement = Placement(examples.order_placed(), "a-key", "asked")
        cut.cuts = 3
        placed = await database.write(store.place, placement)

        assert (cut.done, placed.order_id) == (3, placement.event.subject)
        assert await count(database, store.orders, store.outbox.table) == [1, 1]


async def test_a_server_that_never_answers_is_hung_up_on(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(database_module, "PROBE_SECONDS", 0.1)
    store = order_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        placement = Placement(examples.order_placed(), "a-key", "asked")
        cut.after, cut.cuts, cut.keeps_open = b"INSERT INTO orders", 1, True
        placed = await asyncio.wait_for(database.write(store.place, placement), 20)

        assert (cut.done, placed.order_id) == (1, placement.event.subject)
        assert await count(database, store.orders, store.outbox.table) == [1, 1]


async def test_where_nobody_can_look_it_is_unknown_and_repeating_it_is_safe(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "ASK_SECONDS", 0.3)
    store = order_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        placements = [Placement(examples.order_placed(), f"key-{n}", "asked") for n in range(CROWD)]
        cut.cuts, cut.closes = 1, True
        results = await asyncio.gather(
            *(database.write(store.place, each) for each in placements), return_exceptions=True
        )
        assert {type(result) for result in results} == {CommitUnknown}
        assert str(results[0]).count("unknown") == 1

        cut.is_closed = False
        again = [Placement(examples.order_placed(), each.idempotency_key, "asked") for each in placements]
        placed = await asyncio.gather(*(database.write(store.place, each) for each in again))
        assert [each.order_id for each in placed] == [each.event.subject for each in placements]
        assert await count(database, store.orders, store.outbox.table) == [CROWD, CROWD]


async def test_a_commit_that_did_not_go_through_is_made_up_for(postgres: PrivatePostgres) -> None:
    """The connection breaks before the server has the COMMIT: then nothing is there, and the rows are written anew."""
    store = order_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        placements = [Placement(examples.order_placed(), f"key-{n}", "asked") for n in range(CROWD)]
        cut.swallows = cut.cuts = 1
        placed = await asyncio.gather(*(database.write(store.place, each) for each in placements))

        assert cut.done == 1
        assert [each.order_id for each in placed] == [each.event.subject for each in placements]
        assert await count(database, store.orders, store.outbox.table) == [CROWD, CROWD]


async def test_payments_and_their_events_are_there_once(postgres: PrivatePostgres) -> None:
    store = payment_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        payments = [(placed, payment_of(placed, Charged(new_id()), 1)) for placed in
                    (examples.order_placed() for _ in range(CROWD))]  # fmt: skip
        cut.cuts = 1
        await asyncio.gather(
            *(
                database.write(store.records.record, Recording(payment, event_of(payment, placed)))
                for placed, payment in payments
            )
        )
        assert cut.done == 1
        assert await count(database, store.payments, store.outbox.table) == [CROWD, CROWD]
        assert [await database.read(store.records.get, placed.subject) for placed, _ in payments] == [
            payment for _, payment in payments
        ]


async def test_notifications_and_their_events_are_there_once(postgres: PrivatePostgres) -> None:
    store = notification_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        notices = [email(examples.payment_succeeded()) for _ in range(CROWD)]
        told = [notification_of(notice, 1) for notice in notices if notice is not None]
        cut.cuts = 1
        await asyncio.gather(
            *(database.write(store.records.record, Recording(each, notification_event(each))) for each in told)
        )
        assert cut.done == 1
        assert await count(database, store.notifications, store.outbox.table) == [CROWD, CROWD]


async def test_charges_of_the_simulated_gateway_are_still_new(postgres: PrivatePostgres) -> None:
    store = payment_service.gateways.simulated.store
    async with opened(postgres, store.metadata) as (database, cut):
        charges = [Charge(new_id(), new_id(), 100, "EUR") for _ in range(CROWD)]
        cut.cuts = 1
        made = await asyncio.gather(*(database.write(store.charge, each) for each in charges))

        assert cut.done == 1
        assert made == charges


async def test_reports_about_orders_are_recorded_once_and_are_no_duplicates(postgres: PrivatePostgres) -> None:
    store = order_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        placements = [Placement(examples.order_placed()) for _ in range(CROWD)]
        await asyncio.gather(*(database.write(store.place, each) for each in placements))
        reports = [
            Report(each.event.subject, timeline_entry(examples.payment_succeeded(each.event.subject)), SWEEP_DELAYS)
            for each in placements
        ]
        cut.cuts = 1
        results = await asyncio.gather(*(database.write(store.track, each) for each in reports))

        assert cut.done == 1
        assert Counter(results) == {Tracked.RECORDED: CROWD}
        assert await count(database, store.timeline, store.duplicates) == [CROWD, 0]
        found = await asyncio.gather(*(database.read(store.get, each.order_id) for each in reports))
        assert {order and order.status for order in found} == {"paid"}


@pytest.mark.parametrize("reaches_the_server", [True, False])
async def test_events_whose_deletion_was_left_without_an_answer_are_published_once(
    postgres: PrivatePostgres, module_broker_settings: BrokerSettings, reaches_the_server: bool
) -> None:
    store = order_service.store
    publisher = Publisher(module_broker_settings.rabbitmq_url, "test", exchanges=["orders"])
    await start_ready(publisher)
    async with (
        opened(postgres, store.metadata) as (database, cut),
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
    ):
        cut.after, cut.cuts, cut.swallows = b"DELETE FROM outbox", 1, int(not reaches_the_server)
        relay = OutboxRelay(database, store.outbox, publisher)
        await relay.start()
        await asyncio.gather(*(database.write(store.place, Placement(examples.order_placed())) for _ in range(CROWD)))

        async def is_empty() -> bool:
            return await count(database, store.outbox.table) == [0]

        await eventually(is_empty, 20, "the outbox to be empty")
        await relay.stop()
        await publisher.publish(Message("", queue, b"marker"))
        await eventually(lambda: messages and messages[-1].body == b"marker", expecting="the marker")
        assert cut.done == 1
        assert len(messages) == CROWD + 1
    await publisher.stop()


@pytest.fixture
def body() -> dict[str, object]:
    return {"customer_email": "ada@example.com", "items": [{"sku": "margherita", "quantity": 1}]}


@asynccontextmanager
async def order_service_behind_a_cut(
    postgres: PrivatePostgres, settings: BrokerSettings, directory: Path
) -> AsyncIterator[tuple[RunningService, Cut]]:
    async with (
        cut_in_front_of(postgres.create_database()) as (cut, url),
        running("order_service", settings, directory, DATABASE_URL=url) as service,
    ):
        cut.after = b"INSERT INTO orders"  # the relay and the probe commit too
        yield service, cut


async def test_a_customer_is_answered_by_what_is_there(
    postgres: PrivatePostgres, broker_settings: BrokerSettings, tmp_path: Path, body: dict[str, object]
) -> None:
    async with order_service_behind_a_cut(postgres, broker_settings, tmp_path) as (service, cut):
        cut.cuts = 1
        answers = await asyncio.gather(*(service.http.post("/orders", json=body) for _ in range(CROWD)))

        assert cut.done == 1
        assert {answer.status_code for answer in answers} == {202}
        rows = [row["order_id"] for row in await service.audit()]
        assert sorted(rows) == sorted(answer.json()["order_id"] for answer in answers)


async def test_a_customer_whom_nobody_can_answer_is_told_what_to_do(
    postgres: PrivatePostgres, broker_settings: BrokerSettings, tmp_path: Path, body: dict[str, object]
) -> None:
    async with order_service_behind_a_cut(postgres, broker_settings, tmp_path) as (service, cut):
        cut.cuts, cut.closes = 1, True
        headers = {"Idempotency-Key": '"one"'}
        with_key = await service.http.post("/orders", json=body, headers=headers)
        assert with_key.status_code == 503
        assert "unknown" in with_key.json()["detail"]
        assert "Idempotency-Key" in with_key.json()["detail"]
        assert "Nothing was done" not in with_key.text

        cut.is_closed = False
        assert await service.answers("/orders/none", 404)
        again = await service.http.post("/orders", json=body, headers=headers)
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")

        cut.cuts = 1
        without_key = await service.http.post("/orders", json=body)
        assert (cut.done, without_key.status_code) == (2, 503)
        cut.is_closed = False
        placed = {row["order_id"] for row in await service.audit()} - {again.json()["order_id"]}
        assert f"/orders/{placed.pop()}" in without_key.json()["detail"]
        assert not placed

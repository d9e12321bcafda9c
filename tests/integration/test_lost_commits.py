"""A COMMIT whose answer is lost: rows that are written count, and no caller is told that they failed."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, Table, func, select

import order_service.store
import payment_service.gateways.simulated.store
import payment_service.store
from order_service.cancelling.store import Cancellation, Cancelled, cancel
from order_service.orders import CancellationRules, SweepDelays, cancellation, timeline_entry
from order_service.store import Placed, Placement, Report, Tracked
from payment_service.gateways.simulated.store import Entry
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
from shared.testing.lost_answers import Cut, cut_in_front_of
from tests import examples
from tests.amqp import arrivals, queue_of
from tests.postgres import PrivatePostgres
from tests.service.process import RunningService, running
from tests.support import create_tables, eventually, ready

ROWS = 19
SWEEP_DELAYS = SweepDelays(dict.fromkeys(("charge", "email", "sms", "restaurant"), 60.0))


@asynccontextmanager
async def opened(
    postgres: PrivatePostgres, metadata: MetaData = order_service.store.metadata
) -> AsyncIterator[tuple[Database, Cut]]:
    create_tables(direct := postgres.create_database(), metadata)
    async with (
        cut_in_front_of(direct) as (cut, url),
        ready(Database(url, metadata, name=f"cut-{uuid.uuid4().hex[:8]}")) as database,
    ):
        yield database, cut


async def write_all(database: Database, operation: Any, rows: Iterable[Any]) -> list[Any]:
    return await asyncio.gather(*(database.write(operation, row) for row in rows), return_exceptions=True)


async def count(database: Database, *tables: Table) -> list[int]:
    def rows(connection: Connection, tables: list[Table]) -> list[int]:
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]

    return [await database.read(rows, table) for table in tables]


def placements(orders: int = ROWS, key: str | None = "key") -> list[Placement]:
    return [Placement(examples.order_placed(), key and f"{key}-{number}", "asked") for number in range(orders)]


async def expect_placed(database: Database, asked: list[Placement], placed: list[Placed]) -> None:
    """Each order once, under the id that its first placement gave it, and none counted as a duplicate."""
    store = order_service.store
    assert [each.order_id for each in placed] == [each.event.subject for each in asked]
    assert await count(database, store.orders, store.outbox.table) == [len(asked), len(asked)]
    assert await count(database, store.duplicates) == [0]


@pytest.mark.parametrize("key", [None, "key"])
@pytest.mark.parametrize("orders", [1, ROWS])
@pytest.mark.parametrize("cuts", [1, 3], ids=["once", "and again when the rows are looked for"])
async def test_orders_whose_commit_got_no_answer_are_placed_once(
    postgres: PrivatePostgres, orders: int, key: str | None, cuts: int
) -> None:
    async with opened(postgres) as (database, cut):
        cut.cuts = cuts
        asked = placements(orders, key)
        placed = await write_all(database, order_service.store.place, asked)
        assert cut.done == cuts
        await expect_placed(database, asked, placed)


async def test_a_commit_that_did_not_go_through_is_made_up_for(postgres: PrivatePostgres) -> None:
    """The connection breaks before the server has the COMMIT: nothing is written, and the rows are written anew."""
    async with opened(postgres) as (database, cut):
        cut.swallows = cut.cuts = 1
        asked = placements()
        placed = await write_all(database, order_service.store.place, asked)
        assert cut.done == 1
        await expect_placed(database, asked, placed)


async def test_the_connection_to_a_server_that_never_answers_is_cut(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ANSWER_SECONDS", 3.0)  # in which a server that answers has done so
    monkeypatch.setattr(database_module, "PROBE_SECONDS", 0.1)
    async with opened(postgres) as (database, cut):
        cut.after, cut.cuts, cut.keeps_open = b"INSERT INTO orders", 1, True
        asked = placements(1)
        placed = await asyncio.wait_for(write_all(database, order_service.store.place, asked), 20)
        assert cut.done == 1
        await expect_placed(database, asked, placed)


async def test_while_the_database_is_away_a_commit_is_unknown_and_repeating_it_is_safe(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "ASK_SECONDS", 0.3)
    store = order_service.store
    async with opened(postgres) as (database, cut):
        cut.cuts, cut.closes = 1, True
        asked = placements()
        results = await write_all(database, store.place, asked)
        assert {type(result) for result in results} == {CommitUnknown}
        assert str(results[0]).count("unknown") == 1

        cut.is_closed = False
        again = [Placement(examples.order_placed(), each.idempotency_key, "asked") for each in asked]
        placed = await write_all(database, store.place, again)
        assert [each.order_id for each in placed] == [each.event.subject for each in asked]
        assert await count(database, store.orders, store.outbox.table) == [ROWS, ROWS]


async def test_records_and_their_events_are_there_once(postgres: PrivatePostgres) -> None:
    store = payment_service.store
    async with opened(postgres, store.metadata) as (database, cut):
        orders = [examples.order_placed() for _ in range(ROWS)]
        payments = [payment_of(placed, Charged(new_id()), 1) for placed in orders]
        cut.cuts = 1
        recordings = [Recording(each, event_of(each, placed)) for each, placed in zip(payments, orders, strict=True)]
        await write_all(database, store.records.record, recordings)

        assert cut.done == 1
        assert await count(database, store.payments, store.outbox.table) == [ROWS, ROWS]
        assert [await database.read(store.records.get, placed.subject) for placed in orders] == payments


async def test_charges_of_the_simulated_gateway_are_still_new(postgres: PrivatePostgres) -> None:
    store = payment_service.gateways.simulated.store
    async with opened(postgres, store.metadata) as (database, cut):
        charges = [Entry(order_id := new_id(), new_id(), order_id, "charge", 100, "EUR") for _ in range(ROWS)]
        cut.cuts = 1
        made = await write_all(database, store.move, charges)

        assert cut.done == 1
        assert made == charges


async def test_reports_about_orders_are_recorded_once_and_are_no_duplicates(postgres: PrivatePostgres) -> None:
    store = order_service.store
    async with opened(postgres) as (database, cut):
        placed = await write_all(database, store.place, placements())
        reports = [
            Report(each.order_id, timeline_entry(examples.payment_succeeded(each.order_id)), SWEEP_DELAYS)
            for each in placed
        ]
        cut.cuts = 1
        results = await write_all(database, store.track, reports)

        assert cut.done == 1
        assert results == [Tracked.RECORDED] * ROWS
        assert await count(database, store.timeline, store.duplicates) == [ROWS, 0]
        orders = await asyncio.gather(*(database.read(store.get, each.order_id) for each in placed))
        assert {order and order.status for order in orders} == {"paid"}


@pytest.mark.parametrize("reaches_the_server", [True, False])
async def test_orders_are_cancelled_once_though_the_commit_got_no_answer(
    postgres: PrivatePostgres, reaches_the_server: bool
) -> None:
    store = order_service.store
    async with opened(postgres) as (database, cut):
        placed = await write_all(database, store.place, placements())
        cut.cuts, cut.swallows = 1, int(not reaches_the_server)
        results = await write_all(database, cancel, (cancellation_of(each.order_id) for each in placed))

        assert cut.done == 1
        assert results == [Cancelled.NOW] * ROWS
        assert await count(database, store.timeline, store.duplicates, store.outbox.table) == [ROWS, 0, 2 * ROWS]
        assert await write_all(database, cancel, [cancellation_of(placed[0].order_id)]) == [Cancelled.EARLIER]


def cancellation_of(order_id: str) -> Cancellation:
    return Cancellation(order_id, cancellation("customer"), None, CancellationRules(900), SWEEP_DELAYS)


@pytest.mark.parametrize("reaches_the_server", [True, False])
async def test_events_whose_deletion_was_left_without_an_answer_are_published_once(
    postgres: PrivatePostgres, module_broker_settings: BrokerSettings, reaches_the_server: bool
) -> None:
    store = order_service.store
    async with (
        ready(Publisher(module_broker_settings.rabbitmq_url, "test", exchanges=["orders"])) as publisher,
        opened(postgres, store.metadata) as (database, cut),
        queue_of(module_broker_settings, "orders", "order.placed.v1") as queue,
        arrivals(module_broker_settings, queue) as messages,
    ):
        cut.after, cut.cuts, cut.swallows = b"DELETE FROM outbox", 1, int(not reaches_the_server)
        async with ready(OutboxRelay(database, store.outbox, publisher)):
            await write_all(database, store.place, placements())

            async def is_empty() -> bool:
                return await count(database, store.outbox.table) == [0]

            await eventually(is_empty, 20, "the outbox to be empty")
        await publisher.publish(Message("", queue, b"marker"))
        await eventually(lambda: messages and messages[-1].body == b"marker", expecting="the marker")
        assert cut.done == 1
        assert len(messages) == ROWS + 1


@pytest.fixture
def body() -> dict[str, object]:
    return {"customer_email": "ada@example.com", "items": [{"sku": "margherita", "quantity": 1}]}


@asynccontextmanager
async def order_service_behind_a_proxy(
    postgres: PrivatePostgres, settings: BrokerSettings, directory: Path
) -> AsyncIterator[tuple[RunningService, Cut]]:
    async with (
        cut_in_front_of(postgres.create_database()) as (cut, url),
        running("order_service", settings, directory, DATABASE_URL=url) as service,
    ):
        cut.after = b"INSERT INTO orders"  # the relay and the probe commit too
        yield service, cut


async def test_a_customer_whose_order_was_written_gets_the_usual_answer(
    postgres: PrivatePostgres, broker_settings: BrokerSettings, tmp_path: Path, body: dict[str, object]
) -> None:
    async with order_service_behind_a_proxy(postgres, broker_settings, tmp_path) as (service, cut):
        cut.cuts = 1
        answers = await asyncio.gather(*(service.http.post("/orders", json=body) for _ in range(ROWS)))

        assert cut.done == 1
        assert {answer.status_code for answer in answers} == {202}
        rows = [row["order_id"] for row in await service.audit()]
        assert sorted(rows) == sorted(answer.json()["order_id"] for answer in answers)


async def test_a_customer_whose_order_is_unknown_is_told_how_to_ask_again(
    postgres: PrivatePostgres, broker_settings: BrokerSettings, tmp_path: Path, body: dict[str, object]
) -> None:
    async with order_service_behind_a_proxy(postgres, broker_settings, tmp_path) as (service, cut):
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

        order_id = again.json()["order_id"]
        cut.after, cut.cuts = b"INSERT INTO timeline", 1
        cancelled = await service.http.post(f"/orders/{order_id}/cancel")
        assert (cut.done, cancelled.status_code) == (3, 503)
        assert "unknown" in cancelled.json()["detail"]
        assert "Send the same request again" in cancelled.json()["detail"]
        cut.is_closed = False
        cancelled = await service.http.post(f"/orders/{order_id}/cancel")
        assert (cancelled.status_code, cancelled.headers["Idempotent-Replayed"]) == (202, "true")

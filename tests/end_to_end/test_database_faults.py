"""PostgreSQL fails under the services: restarted, read-only, connections cut; and replicas meet at the same order."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest

from control_room.launcher.system import System
from shared.events import encode
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from tests import examples
from tests.order_rail import file_of, order_rail
from tests.postgres import PrivatePostgres, read_only
from tests.rail import Rail
from tests.service.process import running
from tests.support import eventually, ready

TOKENS = ["tok_visa", "tok_declined", "tok_timeout"] * 40


@pytest.fixture(scope="module")
def system_environment(postgres: PrivatePostgres) -> dict[str, str]:
    """The whole system on PostgreSQL, but for the notification service, which stays on SQLite."""
    return {
        "RETRY_DELAYS_SECONDS": "0.2,0.5",
        "GATEWAY_LATENCY_SECONDS": "0.3",
        "PAYMENT_CONCURRENCY": "20",
        "SWEEP_AFTER_SECONDS": "3600",  # none of this needs the sweep
        "RABBITMQ_URL": "",
        "ORDER_SERVICE_DATABASE_URL": postgres.create_database(),
        "PAYMENT_SERVICE_DATABASE_URL": postgres.create_database(),
        "GATEWAY_URL": f"simulated+{postgres.create_database()}",
    }


async def test_connections_that_the_database_cuts_under_load_cost_nothing(
    rail: Rail, postgres: PrivatePostgres
) -> None:
    async with rail.under_load(TOKENS):
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            cut = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'"
            ).fetchall()
        assert len(cut) >= 3
    await rail.reconcile()


async def test_a_database_restarted_under_load_costs_nothing(rail: Rail, postgres: PrivatePostgres) -> None:
    async with rail.under_load(TOKENS):
        await asyncio.to_thread(postgres.stop)
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            await rail.place()
        await asyncio.to_thread(postgres.start)
    await rail.reconcile()


async def test_a_database_that_only_reads_costs_no_attempt_and_connections_to_it_are_given_up(
    system: System, rail: Rail
) -> None:
    services = ("order_service", "payment_service")
    outcomes = ("deadletter", "retry")
    before = [await settled(rail, "payment_service", outcome) for outcome in outcomes]
    async with rail.under_load(["tok_visa", "tok_declined"] * 60):  # what tok_timeout loses can cost an attempt
        with read_only(*(system.processes[service].environment["DATABASE_URL"] for service in services)):
            await eventually(lambda: all_say(rail, services, "read-only"), 15, "/readyz to say so")
            with pytest.raises(httpx.HTTPStatusError, match="503"):
                await rail.place()
    await rail.reconcile()
    assert [await settled(rail, "payment_service", outcome) for outcome in outcomes] == before


async def test_the_audit_says_whose_database_is_away(system: System, rail: Rail, postgres: PrivatePostgres) -> None:
    await rail.place()
    await rail.all_final()
    await asyncio.to_thread(postgres.stop)
    try:
        ended = await order_rail("audit", *file_of(system))
    finally:
        await asyncio.to_thread(postgres.start)

    assert (ended.status, ended.output) == (2, "")
    assert "The audit could not be carried out: order_service: GET /audit was answered 503: " in ended.errors
    assert len(ended.errors.splitlines()) == 1
    await rail.is_ready()
    assert (await order_rail("audit", *file_of(system))).status == 0


async def test_simultaneous_duplicates_at_two_replicas_have_one_winner(system: System, rail: Rail) -> None:
    publisher = Publisher(system.broker_settings.rabbitmq_url, "test", exchanges=["orders"])
    environment: dict[str, Any] = {**system.processes["payment_service"].environment}
    del environment["HTTP_PORT"]
    replica = running("payment_service", system.broker_settings, system.run.path, **environment)
    async with replica as second, ready(publisher):
        event = examples.order_placed()
        message = Message("orders", event.type, encode(event), message_id=event.id, type=event.type)
        before = await rail.metric("payment_service", "duplicate_deliveries")
        assert await publisher.publish_all([message] * 20) == [None] * 20

        async def nineteen_more() -> bool:
            at_first = await rail.metric("payment_service", "duplicate_deliveries") - before
            at_second = await second.metric("duplicate_deliveries")
            assert at_first + at_second == 19, (at_first, at_second)
            return at_first > 0 and at_second > 0  # both replicas had a part in it

        await eventually(nineteen_more, 20, "nineteen duplicates over both replicas")
    charges = [row for row in await rail.audit("payment_service") if row["order_id"] == event.subject]
    assert sorted(row["kind"] for row in charges) == ["charge", "payment"]


async def all_say(rail: Rail, services: tuple[str, ...], word: str) -> bool:
    answers = [await rail.http.get(f"{rail._urls[service]}/readyz") for service in services]
    return all(answer.status_code == 503 and word in answer.text for answer in answers)


async def settled(rail: Rail, service: str, outcome: str) -> float:
    return await rail.metric(service, "deliveries_settled", outcome=outcome)

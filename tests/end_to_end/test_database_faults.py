"""Databases fail under the services: locked, restarted, connections cut; and replicas meet at the same order."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest

from control_room.launcher.ports import free_ports
from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.system import System
from shared.events import encode
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from tests import examples
from tests.order_rail import file_of, order_rail
from tests.postgres import PrivatePostgres, read_only
from tests.rail import Rail
from tests.support import eventually, metric, ready

ENVIRONMENT = {
    "RETRY_DELAYS_SECONDS": "0.2,0.5",
    "GATEWAY_LATENCY_SECONDS": "0.3",
    "PAYMENT_CONCURRENCY": "20",
    "SWEEP_AFTER_SECONDS": "3600",  # none of this needs the sweep
    "RABBITMQ_URL": "",
}
TOKENS = ["tok_visa", "tok_declined", "tok_timeout"] * 40


@pytest.fixture(scope="module")
def system_environment(postgres: PrivatePostgres) -> dict[str, str]:
    """The whole system on PostgreSQL, but for the notification service, which stays on SQLite."""
    return {
        **ENVIRONMENT,
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
    outcomes = ("deadletter", "retry")  # what tok_timeout loses is tried again at once, and costs no attempt either
    before = [await settled(rail, "payment_service", outcome) for outcome in outcomes]
    async with rail.under_load(TOKENS):
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


async def test_a_database_that_another_process_locks_costs_no_message_an_attempt(system: System, rail: Rail) -> None:
    dead_before = await settled(rail, "notification_service", "deadletter")
    other = sqlite3.connect(system.run.path / "notification_service.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await rail.place_many(TOKENS)

    async def paid_and_not_told() -> bool:
        return set((await rail.statuses()).values()) == {"paid", "declined"}

    await eventually(paid_and_not_told, 20, "all payments to be made and nobody to be told")
    other.execute("ROLLBACK")
    other.close()
    await rail.reconcile()
    assert await settled(rail, "notification_service", "deadletter") == dead_before


async def test_simultaneous_duplicates_at_two_replicas_have_one_winner(system: System, rail: Rail) -> None:
    publisher = Publisher(system.broker_settings.rabbitmq_url, "test", exchanges=["orders"])
    async with replica_of(system, "payment_service") as url, ready(publisher):
        event = examples.order_placed()
        message = Message("orders", event.type, encode(event), message_id=event.id, type=event.type)
        before = await duplicates(rail, url)
        assert await publisher.publish_all([message] * 20) == [None] * 20

        async def nineteen_more() -> bool:
            first, second = [now - then for now, then in zip(await duplicates(rail, url), before, strict=True)]
            assert first + second == 19, (first, second)
            return first > 0 and second > 0  # both replicas had a part in it

        await eventually(nineteen_more, 20, "nineteen duplicates over both replicas")
    charges = [row for row in await rail.audit("payment_service") if row["order_id"] == event.subject]
    assert sorted(row["kind"] for row in charges) == ["charge", "payment"]


async def all_say(rail: Rail, services: tuple[str, ...], word: str) -> bool:
    answers = [await rail.http.get(f"{rail._urls[service]}/readyz") for service in services]
    return all(answer.status_code == 503 and word in answer.text for answer in answers)


async def settled(rail: Rail, service: str, outcome: str) -> float:
    return await rail.metric(service, "deliveries_settled", outcome=outcome)


async def duplicates(rail: Rail, replica_url: str) -> tuple[float, float]:
    """Counted by the payment service and by its replica."""
    replica = metric((await rail.http.get(f"{replica_url}/metrics")).text, "duplicate_deliveries")
    return await rail.metric("payment_service", "duplicate_deliveries"), replica


@asynccontextmanager
async def replica_of(system: System, service: str) -> AsyncIterator[str]:
    """A second process of the service on the same database, until the block ends; its URL."""
    (port,) = free_ports(1)
    environment = {**system.processes[service].environment, "HTTP_PORT": str(port)}
    log = system.run.path / f"{service}-replica.log"
    process = SupervisedProcess(f"{service} replica", [sys.executable, "-m", service], environment, log)
    await process.start()
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False) as http:

        async def is_ready() -> bool:
            try:
                return (await http.get(f"{url}/readyz")).is_success
            except httpx.TransportError:
                return False

        try:
            await eventually(is_ready, 30, "the replica to be ready")
            yield url
        finally:
            await process.stop()

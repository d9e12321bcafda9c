"""The broker misbehaves without dying: frozen, out of memory or disk, unbound, full, impatient. Nothing is lost."""

import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from control_room.launcher.broker import PrivateBroker
from control_room.launcher.system import System
from shared.management import Management
from tests.rail import Rail
from tests.support import SERVICES, eventually

ENVIRONMENT = {
    "RETRY_DELAYS_SECONDS": "0.2,0.5",
    "GATEWAY_LATENCY_SECONDS": "0.05",
    "PAYMENT_CONCURRENCY": "5",
    "SWEEP_AFTER_SECONDS": "3600",  # none of this needs the sweep
    "RABBITMQ_URL": "",
}
TOKENS = ["tok_visa", "tok_declined", "tok_timeout"] * 20
QUEUE = "payment_service.charge"


@pytest.fixture(scope="module")
def system_environment() -> dict[str, str]:
    """With a RabbitMQ of its own, which these tests stop and kill."""
    return ENVIRONMENT


@pytest.fixture
def node(system: System) -> PrivateBroker:
    assert system.broker is not None
    return system.broker


async def assert_none_is_lost(rail: Rail) -> None:
    assert rail.accepted
    assert rail.refused == 0  # each was answered with 202, whatever the broker did
    await rail.reconcile()
    await rail.is_ready()


async def test_a_frozen_broker_holds_everything_up_and_loses_nothing(node: PrivateBroker, rail: Rail) -> None:
    node.suspend()
    try:
        await rail.place_many(TOKENS)
        assert set((await rail.statuses()).values()) == {"placed"}
        await eventually(lambda: published(rail, "outcomeunknown"), 20, "the relay to give up waiting for confirms")
    finally:
        node.resume()
    await assert_none_is_lost(rail)


@pytest.mark.parametrize(
    ("alarm", "end"),
    [
        pytest.param(
            ["set_vm_memory_high_watermark", "absolute", "1000"],
            ["set_vm_memory_high_watermark", "absolute", "1GB"],
            id="memory",
        ),
        pytest.param(["set_disk_free_limit", "900000GB"], ["set_disk_free_limit", "50MB"], id="disk"),
    ],
)
async def test_an_alarm_stops_publishing_and_not_taking_orders(
    node: PrivateBroker, rail: Rail, alarm: list[str], end: list[str]
) -> None:
    await node.control(*alarm)
    try:
        await rail.place_many(TOKENS)
        await eventually(lambda: order_service_is_blocked(rail), 20, "the order service to say that it is blocked")
        assert await rail.in_flight() > 0
    finally:
        await node.control(*end)
    await assert_none_is_lost(rail)


async def test_all_connections_closed_at_once_are_opened_again(node: PrivateBroker, rail: Rail) -> None:
    opened = [await rail.metric(service, "broker_connections_opened_total") for service in SERVICES]
    async with rail.under_load(TOKENS):
        await node.control("close_all_connections", "a test")
    await assert_none_is_lost(rail)
    now = [await rail.metric(service, "broker_connections_opened_total") for service in SERVICES]
    assert [after - before for before, after in zip(opened, now, strict=True)] == [2, 2, 2]


async def test_what_no_queue_takes_stays_in_the_outbox_until_one_does(system: System, rail: Rail) -> None:
    async with Management(system.broker_settings) as management:
        path = ("bindings", management.vhost, "e", "orders", "q", QUEUE)
        (binding,) = await management.find(*path)
        await management.delete(*path, binding["properties_key"])  # the topology keeper will put it back
    await rail.place_many(TOKENS)
    await eventually(lambda: published(rail, "unroutable"), expecting="messages to come back")
    await assert_none_is_lost(rail)


async def test_what_a_full_queue_refuses_stays_in_the_outbox_until_there_is_room(system: System, rail: Rail) -> None:
    async with full_at(system, 1):

        async def refuses() -> bool:  # it finds out that it is full some messages late
            await rail.place_many(TOKENS)
            return await published(rail, "refused") > 0

        await eventually(refuses, 30, "the queue to refuse messages")
        assert await rail.in_flight() > 0
    await assert_none_is_lost(rail)


async def test_a_delivery_that_the_broker_thinks_too_slow_is_handled_in_the_end(
    system: System, node: PrivateBroker, rail: Rail
) -> None:
    await node.control("eval", "application:set_env(rabbit, consumer_timeout, 2000).")
    await node.control("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    await node.control("close_all_connections", "so that the channels know")
    await rail.is_ready()
    lock = sqlite3.connect(system.run.path / "notification_service.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")  # whoever is told now has to wait, and the broker does not wait as long
    try:
        await rail.place_many(TOKENS)
        log = system.processes["notification_service"].log
        await eventually(lambda: "timed out" in log.read_text(), 30, "the broker to lose patience")
    finally:
        lock.execute("ROLLBACK")
        lock.close()
        await node.control("eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
    await assert_none_is_lost(rail)


async def published(rail: Rail, result: str) -> float:
    """How many messages the order service has sent to `orders` with this result."""
    return await rail.metric("order_service", "messages_published", exchange="orders", result=result)


async def order_service_is_blocked(rail: Rail) -> bool:
    return "blocks publishers" in (await rail.unready()).get("order_service", "")


@asynccontextmanager
async def full_at(system: System, length: int) -> AsyncIterator[None]:
    """The queue of charges takes no more than a few messages, and its consumer holds still."""
    pid = system.processes["payment_service"].pid
    policy = {"pattern": f"^{QUEUE}$", "definition": {"max-length": length}, "apply-to": "queues"}
    async with Management(system.broker_settings) as management:
        os.kill(pid, signal.SIGSTOP)
        await management.put("policies", management.vhost, "full", body=policy)
        try:
            yield
        finally:
            await management.delete("policies", management.vhost, "full")
            os.kill(pid, signal.SIGCONT)

"""A broker can confirm a message and lose it: the sweep brings every order to its end all the same."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from control_room.launcher.system import System
from shared.management import Management
from tests.rail import Rail
from tests.support import eventually

ENVIRONMENT = {
    "RETRY_DELAYS_SECONDS": "0.1,0.2",
    "GATEWAY_LATENCY_SECONDS": "0.5",
    "PAYMENT_CONCURRENCY": "2",
    "SWEEP_AFTER_SECONDS": "2",
}
QUEUES = [
    ["payment_service.charge"],
    ["order_service.track"],
    ["notification_service.email"],
    ["notification_service.sms", "notification_service.restaurant"],
]


@pytest.mark.parametrize("queues", QUEUES, ids=" ".join)
async def test_orders_whose_messages_went_with_a_deleted_queue_are_told_again(
    system: System, rail: Rail, queues: list[str]
) -> None:
    service = queues[0].partition(".")[0]
    swept = await rail.metric("order_service", "orders_swept_total")
    await rail.place_many(["tok_visa", "tok_visa", "tok_declined"] * 4)
    async with frozen_then_killed(system, service), Management(system.broker_settings) as management:
        for queue in queues:
            await eventually(partial(messages_in, management, queue), 20, f"messages in {queue}")
            await management.delete("queues", management.vhost, queue)
            find = partial(management.find, "queues", management.vhost, queue)
            await eventually(find, 20, f"{queue} to be put back")
    await rail.all_final()
    await eventually(lambda: all_told(rail), 60, "everyone to be told")
    await rail.reconcile()
    swept = 0.0 if service == "order_service" else swept  # a new process counts from nothing
    assert await rail.metric("order_service", "orders_swept_total") > swept


@asynccontextmanager
async def frozen_then_killed(system: System, service: str) -> AsyncIterator[None]:
    """The service holds still, so that messages stay where they are, and dies with those that it had been given."""
    system.processes[service].freeze()
    try:
        yield
    finally:
        os.kill(system.processes[service].pid, signal.SIGKILL)


async def messages_in(management: Management, queue: str) -> bool:
    found = await management.find("queues", management.vhost, queue)
    return bool(found and found.get("messages"))


async def all_told(rail: Rail) -> bool:
    """Each customer, and of each paid order the kitchen, has been told, and the order knows."""
    for order_id in rail.accepted:
        order = await rail.order(order_id)
        told = {notification["channel"] for notification in order["notifications"]}
        expected = {"email", "sms", "restaurant"} if order["status"] == "confirmed" else {"email", "sms"}
        assert told == expected, f"{order_id} ({order['status']}): {told}"
    return True

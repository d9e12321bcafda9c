"""The gateway is down under load: orders wait and spend nothing, and each is charged once when it is back.

`GATEWAY_DOWN_SECONDS=120 .venv/bin/pytest tests/end_to_end/test_gateway_outage.py` makes it two minutes.
"""

import os
import time

import pytest

from control_room.dashboard.snapshots.services import WatchedService
from control_room.launcher.system import System
from control_room.operations.roles import CHARGE, PAYMENTS
from shared.management import Management
from shared.topology import dead_queue
from tests.rail import Rail
from tests.support import eventually

DOWN_SECONDS = float(os.environ.get("GATEWAY_DOWN_SECONDS", "6"))
ENVIRONMENT = {"GATEWAY_LATENCY_SECONDS": "0.02"}


@pytest.mark.timeout(180 + 5 * DOWN_SECONDS)
async def test_a_gateway_that_is_down_under_load_costs_no_attempt_and_no_order_is_charged_twice(
    system: System, rail: Rail
) -> None:
    payments = WatchedService(PAYMENTS.name, system.url(PAYMENTS.name), rail.http)
    await rail.place_many(["tok_visa"] * 20)
    await rail.fail_gateway(DOWN_SECONDS)
    back_at, seen = time.monotonic() + DOWN_SECONDS, set[str]()
    while time.monotonic() < back_at:
        await rail.place_many(["tok_visa", "tok_declined", "tok_visa", "tok_timeout"] * 3)
        await payments.look()
        assert payments.view.is_ready
        seen.update(payments.view.degraded)
    assert await rail.in_flight() > 20  # they waited
    assert seen
    assert all("the payment gateway, since 2" in each and "503" in each for each in seen)
    assert len(seen) == 1  # one outage, however often it was tried

    await rail.all_final(60 + 2 * DOWN_SECONDS)
    await rail.reconcile()
    await payments.look()
    assert payments.view.degraded == ()
    assert await rail.metric(PAYMENTS.name, "degraded") == 0
    assert await rail.metric(PAYMENTS.name, "deliveries_settled", queue=CHARGE, outcome="deadletter") == 0
    async with Management(system.broker_settings) as management:
        parked = await management.find("queues", management.vhost, dead_queue(CHARGE))
    assert parked
    assert not parked.get("messages")


async def test_a_probe_at_a_time_while_it_is_down_and_a_kill_changes_nothing(system: System, rail: Rail) -> None:
    await rail.fail_gateway(3600)
    await rail.place_many(["tok_visa"] * 10)
    await eventually(lambda: held(rail, 10), 20, "ten deliveries to be held")
    await system.processes[PAYMENTS.name].kill()
    await rail.reconcile()


async def held(rail: Rail, count: int) -> bool:
    return await rail.metric(PAYMENTS.name, "deliveries_held", queue=CHARGE) == count

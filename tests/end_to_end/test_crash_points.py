"""A service dies between two steps that belong together: whatever the moment, the work is done once."""

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from control_room.experiments.chaos.faults.crashes import CRASH_POINTS
from control_room.launcher.system import System
from shared.testing.faults import restarted_to_die
from tests.rail import Rail
from tests.support import eventually

ENVIRONMENT = {
    "RETRY_DELAYS_SECONDS": "0.2,0.5,1",
    "GATEWAY_LATENCY_SECONDS": "0.01",
    "SWEEP_AFTER_SECONDS": "3600",  # none of this needs the sweep
}
ORDERS = 20
REFUND_POINTS = {
    "before-refund": "payment_service.gateways.simulated:SimulatedGateway.refund",
    "refunded-not-recorded": "payment_service.gateways.simulated:Refunded",
}


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """The file that a service creates as it dies."""
    return tmp_path / "died"


@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_work_that_was_cut_in_two_is_done_once(system: System, rail: Rail, flag: Path, point: str) -> None:
    service, call = CRASH_POINTS[point]
    has_died = await restarted_to_die(system, service, call, flag)
    await rail.is_ready()
    await rail.place_many(["tok_visa"] * ORDERS)
    await has_died()
    await rail.reconcile()
    if point == "payment_service before-ack":  # such a crash does bring the message a second time

        async def counted() -> bool:
            return await rail.metric(service, "duplicate_deliveries_total") >= 1

        await eventually(counted, expecting="a duplicate to be counted")


@pytest.mark.parametrize("point", REFUND_POINTS)
async def test_a_refund_that_was_cut_in_two_pays_back_once(system: System, rail: Rail, flag: Path, point: str) -> None:
    orders = await rail.place_many(["tok_visa"] * ORDERS)
    await rail.until(orders, "confirmed")
    has_died = await restarted_to_die(system, "payment_service", REFUND_POINTS[point], flag)
    await rail.is_ready()
    for order_id in orders:
        await rail.cancel(order_id)
    await has_died()
    await rail.until(orders, "refunded")

    rows = [row for row in await rail.audit("payment_service") if row["kind"] == "charge" and row["order_id"] in orders]
    assert Counter((row["order_id"], row["type"]) for row in rows) == Counter(product(orders, ("charge", "refund")))

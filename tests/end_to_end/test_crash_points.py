"""A service dies between two steps that belong together: whatever the moment, the work is done once."""

from pathlib import Path

import httpx
import pytest

from control_room.experiments.chaos.crash import DIED, crashing
from control_room.experiments.chaos.faults.crashes import CRASH_POINTS
from control_room.launcher.system import System
from tests.rail import Rail
from tests.support import eventually

ENVIRONMENT = {
    "RETRY_DELAYS_SECONDS": "0.2,0.5,1",
    "GATEWAY_LATENCY_SECONDS": "0.01",
    "SWEEP_AFTER_SECONDS": "3600",  # none of this needs the sweep
}
ORDERS = 20


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """The file that a service creates as it dies."""
    return tmp_path / "died"


async def arm(system: System, rail: Rail, service: str, call: str, flag: Path) -> None:
    """Start the service again so that it dies just before the call, once."""
    process = system.processes[service]
    process.command = crashing(service, call, flag)
    await process.restart()
    await rail.is_ready()


async def assert_died(system: System, service: str, flag: Path) -> None:
    """It did die at the call, and was started again."""
    process = system.processes[service]
    await eventually(flag.exists, 30, "the call to be reached")
    await eventually(lambda: process.last_exit_status == DIED, 20, f"{service} to be started again")


@pytest.mark.parametrize(("service", "call"), CRASH_POINTS.values(), ids=CRASH_POINTS.keys())
async def test_work_that_was_cut_in_two_is_done_once(
    system: System, rail: Rail, flag: Path, service: str, call: str
) -> None:
    await arm(system, rail, service, call, flag)
    await rail.place_many(["tok_visa"] * ORDERS)
    await assert_died(system, service, flag)
    await rail.reconcile()


async def test_an_order_committed_but_not_answered_is_one_order_when_it_is_asked_for_again(
    system: System, rail: Rail, flag: Path
) -> None:
    await arm(system, rail, *CRASH_POINTS["order_service committed-not-answered"], flag)
    body = {"customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 7}]}
    key = {"Idempotency-Key": '"asked-twice"'}
    url = f"{system.url('order_service')}/orders"
    with pytest.raises(httpx.TransportError):
        await rail.http.post(url, json=body, headers=key)
    await assert_died(system, "order_service", flag)
    await rail.is_ready()
    answer = await rail.http.post(url, json=body, headers=key)
    assert answer.status_code == httpx.codes.ACCEPTED
    assert answer.headers["Idempotent-Replayed"] == "true"
    same = [row for row in await rail.audit("order_service") if row["total"]["amount_minor"] == 7 * 300]
    assert [row["order_id"] for row in same] == [answer.json()["order_id"]]


async def test_a_duplicate_that_a_crash_made_is_seen_and_counted(system: System, rail: Rail, flag: Path) -> None:
    """What the tests above rely on: a crash before the acknowledgement does bring the message a second time."""
    await arm(system, rail, *CRASH_POINTS["payment_service before-ack"], flag)
    await rail.place()
    await assert_died(system, "payment_service", flag)
    await rail.all_final()
    await rail.is_ready()

    async def counted() -> bool:
        return await rail.metric("payment_service", "duplicate_deliveries_total") >= 1

    await eventually(counted, expecting="a duplicate to be counted")

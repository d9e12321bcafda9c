"""Services and the broker die at any moment: nothing is lost, nobody is charged twice, and all of it recovers."""

import asyncio
import os
import signal
import time

import httpx
import pytest

from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.system import SERVICES, System
from tests.rail import Rail
from tests.support import eventually

ORDERS = 200
TOKENS = [
    ["tok_visa", "tok_visa", "tok_visa", "tok_declined", "tok_flaky", "tok_timeout"][n % 6] for n in range(ORDERS)
]
ENVIRONMENT = {
    "RETRY_DELAYS_SECONDS": "0.2,0.5,1",
    "GATEWAY_LATENCY_SECONDS": "0.3",
    "PAYMENT_CONCURRENCY": "40",
    "SWEEP_AFTER_SECONDS": "3600",  # none of this needs the sweep
    "RABBITMQ_URL": "",
}


@pytest.fixture(scope="module")
def system_environment() -> dict[str, str]:
    """With a RabbitMQ of its own, which these tests stop and kill."""
    return ENVIRONMENT


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_killed_under_load_loses_nothing_and_charges_once(
    system: System, rail: Rail, service: str
) -> None:
    placing = asyncio.create_task(rail.place_many(TOKENS))
    await eventually(lambda: len(rail.accepted) >= ORDERS // 2, expecting="half of the orders to be accepted")
    in_flight = await rail.in_flight()
    killed = system.processes[service].pid
    os.kill(killed, signal.SIGKILL)
    await placing
    assert in_flight > 0
    await eventually(lambda: system.processes[service].pid != killed, expecting=f"{service} to be started again")
    await rail.all_final()
    await rail.reconcile()


async def test_orders_are_taken_while_the_broker_is_away_and_completed_when_it_is_back(
    system: System, rail: Rail
) -> None:
    assert system.broker is not None
    pids = {name: process.pid for name, process in system.processes.items()}
    await system.broker.stop()
    accepted = await rail.place_many(TOKENS[:20])
    assert len(accepted) == 20
    assert set((await rail.statuses()).values()) == {"placed"}
    await eventually(lambda: _is_unready(system), expecting="each service to say that it is not ready")
    await system.broker.start()
    await rail.all_final()
    await rail.reconcile()
    assert {name: process.pid for name, process in system.processes.items()} == pids


async def test_a_broker_killed_under_load_loses_nothing_and_charges_once(system: System, rail: Rail) -> None:
    assert system.broker is not None
    placing = asyncio.create_task(rail.place_many(TOKENS))
    await eventually(lambda: len(rail.accepted) >= ORDERS // 2, expecting="half of the orders to be accepted")
    assert await rail.in_flight() > 0
    await system.broker.kill()
    await placing
    assert len(rail.accepted) == ORDERS
    await system.broker.start()
    await rail.all_final()
    await rail.reconcile()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_told_to_stop_under_load_ends_well_and_loses_nothing(
    system: System, rail: Rail, service: str
) -> None:
    placing = asyncio.create_task(rail.place_many(TOKENS))
    await eventually(lambda: len(rail.accepted) >= ORDERS // 2, expecting="half of the orders to be accepted")
    assert await rail.in_flight() > 0
    process = system.processes[service]
    pid = process.pid
    await _assert_stops_well(process, pid)
    await placing
    await eventually(lambda: process.pid != pid, expecting=f"{service} to be started again")
    await rail.all_final()
    await rail.reconcile()


async def test_a_service_told_to_stop_while_the_broker_is_away_ends_well_and_loses_nothing(
    system: System, rail: Rail
) -> None:
    assert system.broker is not None
    await system.broker.stop()
    await rail.place_many(TOKENS[:20])
    await eventually(lambda: _is_unready(system), expecting="each service to say that it is not ready")
    pids = {name: process.pid for name, process in system.processes.items()}
    await asyncio.gather(*(_assert_stops_well(system.processes[name], pid) for name, pid in pids.items()))
    await system.broker.start()
    await rail.all_final()
    assert len(rail.accepted) == 20
    await rail.reconcile()


async def _assert_stops_well(process: SupervisedProcess, pid: int) -> None:
    """It ends with 0 within 10 s of its SIGTERM. (The launcher then starts it again.)"""
    started = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    await eventually(lambda: process.pid != pid or process.exit_status is not None, 15, "the process to end")
    assert time.monotonic() - started < 10
    assert (process.exit_status if process.pid == pid else process.last_exit_status) == 0


async def _is_unready(system: System) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        answers = [await client.get(f"{system.url(name)}/readyz") for name in SERVICES]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("RabbitMQ is away" in answer.text for answer in answers)
    return True

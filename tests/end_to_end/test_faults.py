"""Services and the broker die at any moment: nothing is lost, nobody is charged twice, and all of it recovers."""

import asyncio
import os
import signal
import time

import pytest

from control_room.launcher.processes import SupervisedProcess
from control_room.launcher.system import System
from tests.rail import Rail
from tests.support import SERVICES, eventually

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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_killed_or_stopped_under_load_loses_nothing_and_charges_once(
    system: System, rail: Rail, service: str, number: signal.Signals
) -> None:
    process, pid = system.processes[service], system.processes[service].pid
    async with rail.under_load(TOKENS):
        await _assert_ends(process, pid, number)
    await eventually(lambda: process.pid != pid, expecting=f"{service} to be started again")
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
    await eventually(lambda: _is_unready(rail), expecting="each service to say that it is not ready")
    await system.broker.start()
    await rail.reconcile()
    assert {name: process.pid for name, process in system.processes.items()} == pids


async def test_a_broker_killed_under_load_loses_nothing_and_charges_once(system: System, rail: Rail) -> None:
    assert system.broker is not None
    async with rail.under_load(TOKENS):
        await system.broker.kill()
    assert len(rail.accepted) == ORDERS
    await system.broker.start()
    await rail.reconcile()


async def test_a_service_told_to_stop_while_the_broker_is_away_ends_well_and_loses_nothing(
    system: System, rail: Rail
) -> None:
    assert system.broker is not None
    await system.broker.stop()
    await rail.place_many(TOKENS[:20])
    await eventually(lambda: _is_unready(rail), expecting="each service to say that it is not ready")
    pids = {name: process.pid for name, process in system.processes.items()}
    await asyncio.gather(*(_assert_ends(system.processes[name], pid, signal.SIGTERM) for name, pid in pids.items()))
    await system.broker.start()
    await rail.reconcile()
    assert len(rail.accepted) == 20


async def _assert_ends(process: SupervisedProcess, pid: int, number: signal.Signals) -> None:
    """It ends by SIGKILL, or in order within 10 s of a SIGTERM. (The launcher then starts it again.)"""
    started = time.monotonic()
    os.kill(pid, number)
    await eventually(lambda: process.pid != pid or process.exit_status is not None, 15, "the process to end")
    assert time.monotonic() - started < 10
    status = process.exit_status if process.pid == pid else process.last_exit_status
    assert status == (-signal.SIGKILL if number is signal.SIGKILL else 0)


async def _is_unready(rail: Rail) -> bool:
    problems = await rail.unready()
    return problems.keys() == set(SERVICES) and all("RabbitMQ is away" in problem for problem in problems.values())

"""Process control by messages: each service of a whole system, through the broker."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from control_room.dashboard.process_control import Action, ControlFailed, ProcessState
from control_room.dashboard.process_control.exchange import ExchangeControl
from control_room.dashboard.snapshots.observer import watching
from control_room.launcher.system import System
from control_room.operations.addresses import SystemAddresses
from shared.management import Management
from tests.conftest import Broker
from tests.support import SERVICES, eventually

ENVIRONMENT = {"CONTROLS_ENABLED": "true"}


@pytest_asyncio.fixture
async def control(system: System) -> AsyncIterator[ExchangeControl]:
    async with watching(SystemAddresses.of(system.environment)) as observer:
        observer.pace.open("a page")  # else it looks every ten seconds
        yield ExchangeControl(observer.services, observer.management)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_paused_service_says_so_until_it_is_resumed(
    system: System, control: ExchangeControl, service: str
) -> None:
    async with httpx.AsyncClient(base_url=system.url(service), trust_env=False) as http:
        await control.apply(Action.PAUSE, service)
        assert control.state(service) is ProcessState.PAUSED
        assert (await http.get("/readyz")).json()["problems"] == ["paused by an operator"]
        await control.apply(Action.RESUME, service)
        assert control.state(service) is ProcessState.RUNNING
        assert (await http.get("/readyz")).json()["problems"] == []


async def test_the_last_of_pause_slow_and_resume_counts(control: ExchangeControl) -> None:
    for action, state in (("slow", "slow"), ("pause", "paused"), ("slow", "slow"), ("resume", "running")):
        await control.apply(Action(action), "payment_service")
        assert control.state("payment_service") == state


async def test_a_killed_service_is_restarted_and_not_paused(system: System, control: ExchangeControl) -> None:
    process = system.processes["notification_service"]
    pid = process.pid
    await control.apply(Action.PAUSE, "notification_service")
    await control.apply(Action.KILL, "notification_service")
    await eventually(lambda: process.is_running and process.pid != pid, 20, "another process in its place")
    assert process.last_exit_status == -9
    await eventually(lambda: control.state("notification_service") is ProcessState.RUNNING, expecting="no pause")


async def test_a_command_that_no_service_takes_is_an_error(broker: Broker, system: System) -> None:
    elsewhere = SystemAddresses.of({**system.environment, "RABBITMQ_URL": broker.amqp_url()})  # another virtual host
    async with Management(elsewhere) as management:
        with pytest.raises(ControlFailed, match="order_service can't be told"):
            await ExchangeControl({}, management).apply(Action.PAUSE, "order_service")

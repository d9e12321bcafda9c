"""The plugs of services that listen for it: every service of a whole system, through the broker."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from control_room.dashboard.pace import Pace
from control_room.dashboard.process_control import PlugState, PlugStuck
from control_room.dashboard.process_control.exchange import ExchangePlugs
from control_room.launcher.system import SERVICES, System
from control_room.operations.addresses import SystemAddresses
from tests.conftest import Broker
from tests.order_rail import launched
from tests.rail import Rail
from tests.support import eventually


@pytest_asyncio.fixture(scope="module")
async def system(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with launched(broker, tmp_path_factory.mktemp("plugs"), CONTROLS_ENABLED="true") as system:
        yield system


@pytest_asyncio.fixture
async def plugs(system: System) -> AsyncIterator[ExchangePlugs]:
    async with ExchangePlugs(SystemAddresses.of(system.environment), Pace()) as plugs:
        yield plugs


@pytest.mark.parametrize("service", SERVICES)
async def test_a_paused_service_says_so_and_goes_on_when_it_is_resumed(
    system: System, plugs: ExchangePlugs, service: str
) -> None:
    await plugs.pause(service)

    assert plugs.state(service) is PlugState.PAUSED
    async with httpx.AsyncClient(base_url=system.url(service), trust_env=False) as http:
        assert (await http.get("/readyz")).json()["problems"] == ["paused by an operator"]
        await plugs.resume(service)
        assert plugs.state(service) is PlugState.RUNNING
        assert (await http.get("/readyz")).json()["problems"] == []


async def test_orders_wait_for_a_paused_service_and_are_all_served_afterwards(
    system: System, plugs: ExchangePlugs
) -> None:
    rail = Rail(system)
    async with rail.http:
        await plugs.pause("payment_service")
        await rail.place_many(["tok_visa"] * 20)
        assert set((await rail.statuses()).values()) == {"placed"}
        await plugs.resume("payment_service")
        await rail.all_final()
        await rail.reconcile()


async def test_a_slowed_service_is_slow_until_it_is_resumed_and_a_pause_ends_it_not(plugs: ExchangePlugs) -> None:
    await plugs.slow("payment_service")
    assert plugs.state("payment_service") is PlugState.SLOW
    await plugs.pause("payment_service")
    assert plugs.state("payment_service") is PlugState.PAUSED
    await plugs.slow("payment_service")
    assert plugs.state("payment_service") is PlugState.SLOW
    await plugs.resume("payment_service")
    assert plugs.state("payment_service") is PlugState.RUNNING


async def test_a_killed_service_comes_back_and_is_not_held(system: System, plugs: ExchangePlugs) -> None:
    process = system.processes["notification_service"]
    pid = process.pid
    await plugs.pause("notification_service")

    await plugs.kill("notification_service")

    await eventually(lambda: process.is_running and process.pid != pid, 20, "another process in its place")
    assert process.last_exit_status == -9
    await eventually(lambda: plugs.state("notification_service") is PlugState.RUNNING, expecting="a free service")


async def test_what_only_the_containers_owner_can_do_is_said_to_be_so(plugs: ExchangePlugs) -> None:
    assert not plugs.can_hold_down
    with pytest.raises(PlugStuck, match="can't be kept down from here"):
        await plugs.kill("order_service", hold_down=True)
    with pytest.raises(PlugStuck, match="can't be started from here"):
        await plugs.start("order_service")


async def test_a_service_that_does_not_listen_is_said_not_to(broker: Broker, system: System) -> None:
    elsewhere = SystemAddresses.of({**system.environment, "RABBITMQ_URL": broker.amqp_url()})  # another virtual host
    async with ExchangePlugs(elsewhere, Pace()) as plugs:
        with pytest.raises(PlugStuck, match="order_service can't be told"):
            await plugs.pause("order_service")


async def test_an_unknown_service_is_said_to_be_unknown(plugs: ExchangePlugs) -> None:
    with pytest.raises(PlugStuck, match="there is no service bakery; expected one of order_service"):
        await plugs.pause("bakery")

"""The scenarios of the control room, each played on a real system: what is expected is what is seen."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.process_control.launcher import LauncherMailRoute, launcher_control
from control_room.experiments.scenarios import SCENARIOS, Runner, Scenario, Target
from control_room.launcher.system import System
from control_room.operations.addresses import SystemAddresses
from tests.support import SERVICES, eventually

PLAY_SECONDS = 60
SMALL = {"flash-sale": {"orders": 50, "seconds": 1}, "in-line": {"orders": 10}, "outage": {"seconds": 3}}


@pytest_asyncio.fixture
async def runner(system: System) -> AsyncIterator[Runner]:
    async with launcher_control(system.processes) as control:
        mail = LauncherMailRoute(system.processes["notification_service"])
        playing = Runner(Target(SystemAddresses.of(system.environment), control, mail))
        yield playing
        await playing.stop()


def usual(scenario: Scenario) -> dict[str, int]:
    return {**{each.name: each.usual for each in scenario.settings}, **SMALL.get(scenario.name, {})}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_what_a_scenario_expects_is_what_is_seen(runner: Runner, scenario: Scenario) -> None:
    assert scenario.impossible(runner.target) == ""
    runner.start(scenario, usual(scenario))
    run = runner.runs[scenario.name]
    outcome = await eventually(lambda: run.outcome, PLAY_SECONDS, f"an end of {scenario.title!r}")
    assert outcome is not None
    assert outcome.held, f"{outcome.seen}, expected {outcome.expected}"


async def test_one_that_is_broken_off_puts_everything_right(runner: Runner) -> None:
    outage = next(scenario for scenario in SCENARIOS if scenario.name == "outage")
    control = runner.target.control
    assert control is not None
    runner.start(outage, {"seconds": 60})
    await eventually(
        lambda: control.state("payment_service") is ProcessState.DOWN, expecting="the payment service to go"
    )
    await runner.stop()
    assert [control.state(service) for service in SERVICES] == [ProcessState.RUNNING] * 3
    assert runner.current is None
    outcome = runner.runs["outage"].outcome
    assert outcome is not None
    assert not outcome.held


async def test_only_one_is_played_at_a_time(runner: Runner) -> None:
    outage, sale = (next(each for each in SCENARIOS if each.name == name) for name in ("outage", "flash-sale"))
    runner.start(outage, {"seconds": 60})
    runner.start(sale, usual(sale))
    assert list(runner.runs) == ["outage"]


def test_without_process_control_and_mail_it_is_said_what_is_missing() -> None:
    addresses = SystemAddresses(services={})
    missing = {scenario.name: scenario.impossible(Target(addresses)) for scenario in SCENARIOS}
    assert "CONTROLS_ENABLED" in missing["outage"]
    assert "make up" in missing["slow-mail"]
    assert missing["flash-sale"] == ""


@pytest.mark.parametrize("orders", [None, 0, 10**9])
def test_a_setting_out_of_its_limits_is_refused_with_what_was_expected(orders: int | None) -> None:
    sale = next(scenario for scenario in SCENARIOS if scenario.name == "flash-sale")
    assert sale.check({"orders": orders, "seconds": 1}) == "orders: expected a number from 10 to 100,000."
    assert sale.check({"orders": 10, "seconds": 1}) == ""

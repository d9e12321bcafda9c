"""The scenarios of the control room, each played on a real system: what is expected is what is seen."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from control_room.dashboard.process_control import ProcessState
from control_room.dashboard.process_control.launcher import launcher_control
from control_room.experiments.scenarios import SCENARIOS, Runner, Scenario, Target, lab
from control_room.experiments.scenarios.mail_route import LauncherMailRoute
from control_room.launcher.system import System
from control_room.operations.addresses import SystemAddresses
from tests.support import SERVICES, eventually

PLAY_SECONDS = 60
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
SMALL = {
    "flash-sale": {"orders": 50, "seconds": 1},
    "in-line": {"orders": 10},
    "outage": {"seconds": 3},
    "in-sequence": {"kills": 2},
    "lab": {"orders": 60},
}


@pytest_asyncio.fixture
async def runner(system: System) -> AsyncIterator[Runner]:
    async with launcher_control(system.processes) as control:
        mail = LauncherMailRoute(system.processes["notification_service"])
        playing = Runner(Target(SystemAddresses.of(system.environment), control, mail))
        yield playing
        await playing.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_what_a_scenario_expects_is_what_is_seen(
    runner: Runner, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "COMMAND", (*lab.COMMAND, "--way", "auto-ack", "--way", "order-rail"))
    assert scenario.impossible(runner.target) == ""
    usual = {each.name: each.usual for each in scenario.settings}
    runner.start(scenario, {**usual, **SMALL.get(scenario.name, {})})
    run = runner.runs[scenario.name]
    outcome = await eventually(lambda: run.outcome, PLAY_SECONDS, f"an end of {scenario.title!r}")
    assert outcome is not None
    assert outcome.held, f"{outcome.seen}, expected {outcome.expected}"


async def test_a_scenario_that_is_stopped_puts_everything_right(runner: Runner) -> None:
    control = runner.target.control
    assert control is not None
    runner.start(BY_NAME["outage"], {"seconds": 60})
    await eventually(
        lambda: control.state("payment_service") is ProcessState.DOWN, expecting="the payment service to go"
    )
    await runner.stop()
    assert [control.state(service) for service in SERVICES] == [ProcessState.RUNNING] * len(SERVICES)
    assert runner.current is None
    outcome = runner.runs["outage"].outcome
    assert outcome is not None
    assert not outcome.held


async def test_only_one_is_played_at_a_time(runner: Runner) -> None:
    runner.start(BY_NAME["outage"], {"seconds": 60})
    runner.start(BY_NAME["cards"], {})
    assert list(runner.runs) == ["outage"]


def test_without_process_control_and_mail_it_is_said_what_is_missing() -> None:
    addresses = SystemAddresses(services={})
    missing = {scenario.name: scenario.impossible(Target(addresses)) for scenario in SCENARIOS}
    assert "CONTROLS_ENABLED" in missing["outage"]
    assert "make up" in missing["slow-mail"]
    assert missing["flash-sale"] == ""


@pytest.mark.parametrize("orders", [None, 0, 10**9])
def test_a_setting_out_of_its_limits_is_refused_with_what_was_expected(orders: int | None) -> None:
    check = BY_NAME["flash-sale"].check
    assert check({"orders": orders, "seconds": 1}) == "orders: expected a number from 10 to 100,000."
    assert check({"orders": 10, "seconds": 1}) == ""

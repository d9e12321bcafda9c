"""Process control by signals, on a process that does nothing."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from control_room.dashboard.process_control import Action, ControlFailed, ProcessState
from control_room.dashboard.process_control.launcher import LauncherControl, launcher_control
from control_room.launcher.processes import SupervisedProcess
from tests.support import eventually

NAME = "payment_service"
FROZEN, IDLE = psutil.STATUS_STOPPED, psutil.STATUS_SLEEPING
SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest_asyncio.fixture
async def process(tmp_path: Path) -> AsyncIterator[SupervisedProcess]:
    supervised = SupervisedProcess(NAME, SLEEPER, {}, tmp_path / "log")
    await supervised.start()
    supervised.keep_alive()
    yield supervised
    await supervised.stop()


@pytest_asyncio.fixture
async def control(process: SupervisedProcess) -> AsyncIterator[LauncherControl]:
    async with launcher_control({NAME: process}) as control:
        yield control


async def until_status(process: SupervisedProcess, expected: str) -> None:
    await eventually(lambda: psutil.Process(process.pid).status() == expected, expecting=f"it to be {expected}")


async def until_replaced(process: SupervisedProcess, pid: int) -> None:
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")


@pytest.mark.parametrize("first", [Action.PAUSE, Action.SLOW, Action.RESUME])
async def test_a_killed_service_is_restarted_and_neither_paused_nor_slow(
    process: SupervisedProcess, control: LauncherControl, first: Action
) -> None:
    await control.apply(first, NAME)
    pid = process.pid
    await control.apply(Action.KILL, NAME)
    await until_replaced(process, pid)
    assert control.state(NAME) is ProcessState.RUNNING


async def test_a_service_that_is_held_down_is_restarted_by_start(
    process: SupervisedProcess, control: LauncherControl
) -> None:
    pid = process.pid
    await control.apply(Action.KEEP_DOWN, NAME)
    await eventually(lambda: process.last_exit_status == -9, expecting="the watcher to see its end")
    assert (control.state(NAME), process.is_running) == (ProcessState.DOWN, False)
    with pytest.raises(ControlFailed, match="payment_service does not run just now; start it first"):
        await control.apply(Action.SLOW, NAME)
    await control.apply(Action.START, NAME)
    await until_replaced(process, pid)
    assert control.state(NAME) is ProcessState.RUNNING


async def test_a_service_that_is_held_down_stops_with_the_launcher(process: SupervisedProcess) -> None:
    await process.kill(hold_down=True)
    await process.stop()
    assert not process.is_running


@pytest.mark.parametrize(
    ("action", "state", "statuses"),
    [(Action.PAUSE, ProcessState.PAUSED, [FROZEN]), (Action.SLOW, ProcessState.SLOW, [FROZEN, IDLE, FROZEN])],
)
async def test_until_it_is_resumed_a_paused_service_is_frozen_and_a_slow_one_now_and_then(
    process: SupervisedProcess, control: LauncherControl, action: Action, state: ProcessState, statuses: list[str]
) -> None:
    await control.apply(action, NAME)
    assert control.state(NAME) is state
    for status in statuses:
        await until_status(process, status)
    await control.apply(Action.RESUME, NAME)
    await until_status(process, IDLE)
    assert control.state(NAME) is ProcessState.RUNNING


async def test_at_the_end_of_process_control_every_service_is_resumed(process: SupervisedProcess) -> None:
    async with launcher_control({NAME: process}) as control:
        await control.apply(Action.PAUSE, NAME)
        await until_status(process, FROZEN)
    await until_status(process, IDLE)

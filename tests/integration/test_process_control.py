"""Process control by signals, on a process that does nothing."""

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from control_room.dashboard.process_control import ControlFailed, ProcessState
from control_room.dashboard.process_control.launcher import LauncherControl
from control_room.launcher.processes import SupervisedProcess
from tests.support import eventually

NAME = "payment_service"
LIVES = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest_asyncio.fixture
async def process(tmp_path: Path) -> AsyncIterator[SupervisedProcess]:
    supervised = SupervisedProcess(NAME, LIVES, {}, tmp_path / "log")
    await supervised.start()
    supervised.keep_alive()
    yield supervised
    await supervised.stop()


@pytest_asyncio.fixture
async def control(process: SupervisedProcess) -> AsyncIterator[LauncherControl]:
    async with LauncherControl({NAME: process}) as native:
        yield native


def status(process: SupervisedProcess) -> str:
    return psutil.Process(process.pid).status()


def has(process: SupervisedProcess, expected: str) -> bool:
    return status(process) == expected


async def test_a_killed_service_comes_back_by_itself(process: SupervisedProcess, control: LauncherControl) -> None:
    pid = process.pid
    await control.kill(NAME)
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")
    assert control.state(NAME) is ProcessState.RUNNING


async def test_a_service_that_is_held_down_comes_back_when_it_is_started(
    process: SupervisedProcess, control: LauncherControl
) -> None:
    pid = process.pid
    await control.kill(NAME, hold_down=True)
    await eventually(lambda: process.last_exit_status == -9, expecting="the watcher to see its end")
    assert (control.state(NAME), process.is_running) == (ProcessState.DOWN, False)
    await control.start(NAME)
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")
    assert control.state(NAME) is ProcessState.RUNNING


async def test_a_service_that_is_held_down_stops_with_the_launcher(process: SupervisedProcess) -> None:
    await process.kill(hold_down=True)
    await process.stop()
    assert not process.is_running


async def test_a_paused_service_is_frozen_until_it_is_resumed(
    process: SupervisedProcess, control: LauncherControl
) -> None:
    await control.pause(NAME)
    await eventually(lambda: status(process) == psutil.STATUS_STOPPED, expecting="a frozen process")
    assert control.state(NAME) is ProcessState.PAUSED
    await control.resume(NAME)
    await eventually(lambda: status(process) == psutil.STATUS_SLEEPING, expecting="a process that goes on")
    assert control.state(NAME) is ProcessState.RUNNING


async def test_a_slow_service_is_frozen_and_goes_on_in_turn(
    process: SupervisedProcess, control: LauncherControl
) -> None:
    await control.slow(NAME)
    assert control.state(NAME) is ProcessState.SLOW
    for each in (psutil.STATUS_STOPPED, psutil.STATUS_SLEEPING, psutil.STATUS_STOPPED):
        await eventually(partial(has, process, each), expecting=f"it to be {each}")
    await control.resume(NAME)
    await eventually(lambda: status(process) == psutil.STATUS_SLEEPING, expecting="a process that goes on")
    assert control.state(NAME) is ProcessState.RUNNING


async def test_what_takes_the_place_of_a_paused_service_is_not_paused(
    process: SupervisedProcess, control: LauncherControl
) -> None:
    await control.pause(NAME)
    pid = process.pid
    await control.kill(NAME)
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")
    assert control.state(NAME) is ProcessState.RUNNING


async def test_leaving_lets_every_service_run_freely(process: SupervisedProcess) -> None:
    async with LauncherControl({NAME: process}) as control:
        await control.pause(NAME)
        await eventually(lambda: status(process) == psutil.STATUS_STOPPED, expecting="a frozen process")
    await eventually(lambda: status(process) == psutil.STATUS_SLEEPING, expecting="a process that goes on")


async def test_what_cannot_be_done_is_said(process: SupervisedProcess, control: LauncherControl) -> None:
    with pytest.raises(ControlFailed, match="there is no service kitchen; expected one of payment_service"):
        await control.pause("kitchen")
    await control.kill(NAME, hold_down=True)
    with pytest.raises(ControlFailed, match="payment_service does not run just now; start it first"):
        await control.slow(NAME)

"""The native plugs, on a process that does nothing but live."""

import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from control_room.dashboard.process_control import PlugState, PlugStuck
from control_room.dashboard.process_control.launcher import LauncherPlugs
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
async def plugs(process: SupervisedProcess) -> AsyncIterator[LauncherPlugs]:
    async with LauncherPlugs({NAME: process}) as native:
        yield native


def status(process: SupervisedProcess) -> str:
    return psutil.Process(process.pid).status()


def has(process: SupervisedProcess, expected: str) -> bool:
    return status(process) == expected


async def test_a_killed_service_comes_back_by_itself(process: SupervisedProcess, plugs: LauncherPlugs) -> None:
    pid = process.pid
    await plugs.kill(NAME)
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")
    assert plugs.state(NAME) is PlugState.RUNNING


async def test_a_service_that_is_held_down_comes_back_when_it_is_started(
    process: SupervisedProcess, plugs: LauncherPlugs
) -> None:
    pid = process.pid
    await plugs.kill(NAME, hold_down=True)
    await eventually(lambda: process.last_exit_status == -9, expecting="the watcher to see its end")
    assert (plugs.state(NAME), process.is_running) == (PlugState.DOWN, False)
    await plugs.start(NAME)
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")
    assert plugs.state(NAME) is PlugState.RUNNING


async def test_a_service_that_is_held_down_stops_with_the_launcher(process: SupervisedProcess) -> None:
    await process.kill(hold_down=True)
    await process.stop()
    assert not process.is_running


async def test_a_paused_service_is_frozen_until_it_is_resumed(process: SupervisedProcess, plugs: LauncherPlugs) -> None:
    await plugs.pause(NAME)
    await eventually(lambda: status(process) == psutil.STATUS_STOPPED, expecting="a frozen process")
    assert plugs.state(NAME) is PlugState.PAUSED
    await plugs.resume(NAME)
    await eventually(lambda: status(process) == psutil.STATUS_SLEEPING, expecting="a process that goes on")
    assert plugs.state(NAME) is PlugState.RUNNING


async def test_a_slow_service_is_frozen_and_goes_on_in_turn(process: SupervisedProcess, plugs: LauncherPlugs) -> None:
    await plugs.slow(NAME)
    assert plugs.state(NAME) is PlugState.SLOW
    for each in (psutil.STATUS_STOPPED, psutil.STATUS_SLEEPING, psutil.STATUS_STOPPED):
        await eventually(partial(has, process, each), expecting=f"it to be {each}")
    await plugs.resume(NAME)
    await eventually(lambda: status(process) == psutil.STATUS_SLEEPING, expecting="a process that goes on")
    assert plugs.state(NAME) is PlugState.RUNNING


async def test_what_takes_the_place_of_a_paused_service_is_not_paused(
    process: SupervisedProcess, plugs: LauncherPlugs
) -> None:
    await plugs.pause(NAME)
    pid = process.pid
    await plugs.kill(NAME)
    await eventually(lambda: process.is_running and process.pid != pid, expecting="another process in its place")
    assert plugs.state(NAME) is PlugState.RUNNING


async def test_leaving_lets_every_service_run_freely(process: SupervisedProcess) -> None:
    async with LauncherPlugs({NAME: process}) as plugs:
        await plugs.pause(NAME)
        await eventually(lambda: status(process) == psutil.STATUS_STOPPED, expecting="a frozen process")
    await eventually(lambda: status(process) == psutil.STATUS_SLEEPING, expecting="a process that goes on")


async def test_what_cannot_be_done_is_said(process: SupervisedProcess, plugs: LauncherPlugs) -> None:
    with pytest.raises(PlugStuck, match="there is no service kitchen; expected one of payment_service"):
        await plugs.pause("kitchen")
    await plugs.kill(NAME, hold_down=True)
    with pytest.raises(PlugStuck, match="payment_service does not run just now; start it first"):
        await plugs.slow(NAME)

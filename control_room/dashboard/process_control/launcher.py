"""Process control by signals, for services that are children of this process."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from control_room.dashboard.process_control import Action, ControlFailed, ProcessState
from control_room.launcher.processes import SupervisedProcess

SLOW_FROZEN_SECONDS, SLOW_RUNNING_SECONDS = 0.9, 0.1
"""A slow service is frozen and continued in turn. Both are far below the broker's heartbeat timeout."""


@dataclass(frozen=True)
class _Hold:
    """A pause or a slow-down of one process: it does not apply to the process that replaces it."""

    state: ProcessState
    pid: int
    alternating: asyncio.Task[None] | None = None


class LauncherControl:
    """Implements ProcessControl. Use `launcher_control`."""

    actions: Mapping[Action, str] = {
        Action.KILL: "Ends its process at once (kill -9), whatever it is doing.",
        Action.KEEP_DOWN: "",
        Action.START: "",
        Action.PAUSE: "Freezes its process (SIGSTOP): its connections stay open, and nothing is answered.",
        Action.SLOW: "Lets it work for a tenth of each second only.",
        Action.RESUME: "",
    }

    def __init__(self, processes: Mapping[str, SupervisedProcess]) -> None:
        self._processes = processes
        self._holds: dict[str, _Hold] = {}

    def state(self, service: str) -> ProcessState:
        process, hold = self._processes[service], self._holds.get(service)
        if process.is_held_down:
            return ProcessState.DOWN
        return hold.state if hold is not None and hold.pid == process.pid else ProcessState.RUNNING

    async def apply(self, action: Action, service: str) -> None:
        process = self._processes[service]
        match action:
            case Action.KILL | Action.KEEP_DOWN:
                await process.kill(hold_down=action is Action.KEEP_DOWN)
            case Action.START:
                process.release()
            case _:
                await self._resume(service)
                if action is not Action.RESUME:
                    self._holds[service] = _hold(action, _running(process))

    async def _resume(self, service: str) -> None:
        hold = self._holds.pop(service, None)
        if hold is not None and hold.alternating is not None:
            hold.alternating.cancel()
            await asyncio.gather(hold.alternating, return_exceptions=True)
        self._processes[service].thaw()


@asynccontextmanager
async def launcher_control(processes: Mapping[str, SupervisedProcess]) -> AsyncIterator[LauncherControl]:
    """Control of these processes by their service's name; at the end of the block each is resumed."""
    control = LauncherControl(processes)
    try:
        yield control
    finally:
        for service in processes:
            await control.apply(Action.RESUME, service)


def _running(process: SupervisedProcess) -> SupervisedProcess:
    if not process.is_running:
        raise ControlFailed(f"{process.name} does not run just now; start it first")
    return process


def _hold(action: Action, process: SupervisedProcess) -> _Hold:
    if action is Action.PAUSE:
        process.freeze()
        return _Hold(ProcessState.PAUSED, process.pid)
    alternating = asyncio.create_task(_alternate(process, process.pid), name=f"slow {process.name}")
    return _Hold(ProcessState.SLOW, process.pid, alternating)


async def _alternate(process: SupervisedProcess, pid: int) -> None:
    """Freeze and continue the process in turn until it has ended."""
    while process.is_running and process.pid == pid:
        process.freeze()
        await asyncio.sleep(SLOW_FROZEN_SECONDS)
        process.thaw()
        await asyncio.sleep(SLOW_RUNNING_SECONDS)

"""Process control by signals, for services that are children of this process."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from control_room.dashboard.process_control import ControlFailed, ProcessState
from control_room.launcher.processes import SupervisedProcess

SLOW_FROZEN_SECONDS, SLOW_RUNNING_SECONDS = 0.9, 0.1
"""A slow service is frozen and let go on in turn: well within the broker's heartbeat."""


class LauncherControl:
    """Use it as an async context manager: at the end every service may run freely again."""

    meanings: Mapping[str, str] = {
        "kill": "Ends its process at once (kill -9), whatever it had at hand.",
        "pause": "Freezes its process (SIGSTOP): its connections stay open, and nobody is at home.",
        "slow": "Lets it work for a tenth of each second only.",
    }
    can_hold_down = True

    def __init__(self, processes: Mapping[str, SupervisedProcess]) -> None:
        self._processes = processes
        self._frozen: dict[str, int] = {}  # service -> the process that was frozen: the next one is not
        self._slowed: dict[str, tuple[int, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in self._processes:
            await self.resume(service)

    def state(self, service: str) -> ProcessState:
        process = self._process(service)
        if process.is_held_down:
            return ProcessState.DOWN
        if self._frozen.get(service) == process.pid:
            return ProcessState.PAUSED
        is_slow = self._slowed.get(service, (0, None))[0] == process.pid
        return ProcessState.SLOW if is_slow else ProcessState.RUNNING

    async def kill(self, service: str, *, hold_down: bool = False) -> None:
        await self._process(service).kill(hold_down=hold_down)

    async def start(self, service: str) -> None:
        self._process(service).release()

    async def pause(self, service: str) -> None:
        await self.resume(service)
        process = self._running(service)
        process.freeze()
        self._frozen[service] = process.pid

    async def slow(self, service: str) -> None:
        await self.resume(service)
        process = self._running(service)
        limping = asyncio.create_task(_limp(process, process.pid), name=f"slow {service}")
        self._slowed[service] = (process.pid, limping)

    async def resume(self, service: str) -> None:
        self._frozen.pop(service, None)
        _, limping = self._slowed.pop(service, (0, None))
        if limping is not None:
            limping.cancel()
            await asyncio.gather(limping, return_exceptions=True)
        self._process(service).thaw()

    def _process(self, service: str) -> SupervisedProcess:
        try:
            return self._processes[service]
        except KeyError:
            raise ControlFailed(
                f"there is no service {service}; expected one of {', '.join(self._processes)}"
            ) from None

    def _running(self, service: str) -> SupervisedProcess:
        process = self._process(service)
        if not process.is_running:
            raise ControlFailed(f"{service} does not run just now; start it first")
        return process


async def _limp(process: SupervisedProcess, pid: int) -> None:
    """Freeze the process and let it go on, in turn, for as long as it lives."""
    while process.is_running and process.pid == pid:
        process.freeze()
        await asyncio.sleep(SLOW_FROZEN_SECONDS)
        process.thaw()
        await asyncio.sleep(SLOW_RUNNING_SECONDS)


class LauncherMailRoute:
    """Sends emails to another mail server, by starting the notification service again with another `EMAIL_URL`."""

    def __init__(self, process: SupervisedProcess) -> None:
        self._process, self._usual = process, dict(process.environment)

    async def lead_to(self, url: str) -> None:
        """An empty URL restores the usual one. Raises ControlFailed."""
        if not self._process.is_running:
            raise ControlFailed("notification_service does not run just now; start it first")
        self._process.environment = {**self._usual, "EMAIL_URL": url} if url else self._usual
        await self._process.restart()

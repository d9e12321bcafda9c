"""A service's process, started again whenever it ends by itself, unless it is held down."""

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from control_room.launcher.children import end, freeze, kill, spawn, thaw

STOP_GRACE_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
HEALTHY_AFTER_SECONDS = 30.0  # after so long the delay begins anew: the reason for this end is a new one

logger = structlog.get_logger(__name__)


class SupervisedProcess:
    """One child process and the loop that starts it again. `on_restart` is called once it has a new pid.

    A changed `command` or `environment` takes effect at the next start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.log = name, log
        self.command, self.environment, self._on_restart = command, environment, on_restart
        self.last_exit_status: int | None = None  # of the process before the one that runs now
        self._process: Process | None = None
        self._started_at = 0.0
        self._watcher: asyncio.Task[None] | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._started_again = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last. RuntimeError before `start`."""
        return self._current().pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._current().returncode

    @property
    def is_running(self) -> bool:
        """Whether its process exists, suspended or not."""
        return self._process is not None and self._process.returncode is None

    @property
    def is_held_down(self) -> bool:
        """Whether it stays down until `release`."""
        return not self._may_run.is_set()

    async def start(self) -> None:
        """Start it once. It is not started again until `keep_alive`."""
        self._process = await spawn(self.command, self.environment, self.log)
        self._started_at = time.monotonic()

    def keep_alive(self) -> None:
        """From now on start it again whenever it ends, after a delay that grows with each early end."""
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def kill(self, *, hold_down: bool = False) -> None:
        """SIGKILL. It is started again as after every other end; with `hold_down` not before `release`."""
        if hold_down:
            self._may_run.clear()
        await kill(self._current())

    def release(self) -> None:
        """End `hold_down`: it is started again at once."""
        self._may_run.set()

    async def restart(self) -> None:
        """SIGTERM, after 10 s SIGKILL; returns once a new process runs, with the present command and environment."""
        self._started_again.clear()
        await end(self._current(), STOP_GRACE_SECONDS)
        await self._started_again.wait()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and it does nothing."""
        freeze(self._current())

    def thaw(self) -> None:
        """SIGCONT, after `freeze`."""
        thaw(self._current())

    async def stop(self) -> None:
        """SIGTERM, after 10 s SIGKILL; it is not started again."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._process is not None:
            await end(self._process, STOP_GRACE_SECONDS)

    def _current(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    async def _watch(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            status = self.last_exit_status = await self._current().wait()
            if time.monotonic() - self._started_at > HEALTHY_AFTER_SECONDS:
                delay = FIRST_DELAY_SECONDS
            was_held_down = self.is_held_down
            await self._may_run.wait()
            await asyncio.sleep(0 if was_held_down else delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
            await self._start_again(status)

    async def _start_again(self, status: int) -> None:
        try:
            await self.start()
        except OSError as error:  # no memory, no processes: try again later
            logger.warning("process.not_restarted", name=self.name, error=str(error))
            return
        logger.warning("process.restarted", name=self.name, exit_status=status, pid=self.pid)
        self._started_again.set()
        self._on_restart()

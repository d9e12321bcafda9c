"""Runs the audit again and again, in a process of its own at low priority.

The audit takes at most a twentieth of one processor, and a tenth of that while no page is open: its processor time is
measured, and the pause after it is as long as that demands. During a rush of orders no audit starts, and a running
one is killed, since the services would have to read all their rows for it.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import structlog

from control_room.dashboard.pace import Pace
from control_room.launcher.children import death_pact, kill, signal_group
from control_room.operations.addresses import SystemAddresses

COMMAND = (
    *("nice", "-n", "10"),
    sys.executable,
    "-c",
    "import typer; from control_room.operations.audit.command import audit_command; typer.run(audit_command)",
)
SHARE_OF_A_PROCESSOR, UNWATCHED_SHARE = 0.05, 0.005
SHORTEST_PAUSE_SECONDS, SHORTEST_UNWATCHED_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 120.0, 900.0
MEASURE_SECONDS = 0.25
RUSH_PER_SECOND = 100.0
"""Orders accepted per second from which on no audit runs."""
NOT_POSSIBLE = "The audit could not be carried out"
"""How the command begins what it says if there is no verdict."""
COMPLETED = (0, 1)
"""Exit status of an audit without and with violations."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Verdict:
    """The result of an audit. `report` is what `order-rail audit --json` prints; `at` is in seconds since 1970."""

    at: float
    took_seconds: float
    report: Mapping[str, Any]


class Auditing:
    """`last` is the latest verdict, None before the first; `trouble` says why there is no newer one."""

    def __init__(
        self, addresses: SystemAddresses, arguments: tuple[str, ...], accepted: Callable[[], float], pace: Pace
    ) -> None:
        self.last: Verdict | None = None
        self.trouble = ""
        self.is_running = False
        self._environment = {**os.environ, **addresses.variables}
        self._arguments, self._accepted, self._pace = arguments, accepted, pace
        self._pausing: asyncio.Task[None] | None = None
        self._has_recovered = False

    def ask(self) -> None:
        """Start the next audit now, if none is running."""
        if self._pausing is not None:
            self._pausing.cancel()

    def retry(self) -> None:
        """The system works again: if the last audit was not possible, or fails just now, start the next at once."""
        self._has_recovered = True
        if self.trouble:
            self.ask()

    async def run(self) -> None:
        """Audit and pause until cancelled."""
        while True:
            if self._is_rush():
                await self._pause(SHORTEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS)
                continue
            self._has_recovered = False
            pause = pauses(await self._audit())
            if not (self.trouble and self._has_recovered):
                await self._pause(*pause)

    async def _audit(self) -> float:
        """Audit once; returns the processor time in seconds."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--json", *self._arguments,
            env=self._environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, preexec_fn=death_pact(),
            start_new_session=True,
        )  # fmt: skip
        self.is_running = True
        measuring = asyncio.create_task(self._measure(process))
        try:
            output, errors = await process.communicate()
            if process.returncode != -signal.SIGKILL:
                self._conclude(process.returncode, output, errors.decode().strip(), time.monotonic() - began)
        finally:
            self.is_running = False
            if process.returncode is None:
                await kill(process)
        return await measuring

    async def _measure(self, process: Process) -> float:
        """Measure its processor time while it runs, since later it can't be read; kill it if a rush begins."""
        spent = 0.0
        try:
            auditor = psutil.Process(process.pid)
            while process.returncode is None:
                times = auditor.cpu_times()
                spent = times.user + times.system
                if self._is_rush():
                    signal_group(process, signal.SIGKILL)
                await asyncio.sleep(MEASURE_SECONDS)
        except psutil.Error:  # it has ended
            pass
        return spent

    def _is_rush(self) -> bool:
        return self._accepted() > RUSH_PER_SECOND

    def _conclude(self, status: int | None, output: bytes, errors: str, took_seconds: float) -> None:
        if status not in COMPLETED:
            self.trouble = _why(errors) or f"it ended with status {status}"
            return
        self.last, self.trouble = Verdict(time.time(), took_seconds, json.loads(output)), ""
        if not self.last.report["clean"]:
            logger.error("audit.violations", first=self.last.report["violations"][:1])

    async def _pause(self, watched_seconds: float, unwatched_seconds: float) -> None:
        self._pausing = asyncio.create_task(self._pace.pause(watched_seconds, unwatched_seconds))
        try:
            await asyncio.wait([self._pausing])
        finally:
            self._pausing.cancel()


def _why(errors: str) -> str:
    """The reason alone, in the words of the last line, without its subject "it"."""
    reason = errors.rpartition("\n")[2].replace(f"{NOT_POSSIBLE}: ", "").rstrip(".")
    return re.sub(r" at http\S+", "", re.sub(r"^(\w+): it ", r"\1 ", reason))


def pauses(processor_seconds: float) -> tuple[float, float]:
    """How long to pause after an audit that took so much processor time: while a page is open, and while none is."""
    watched = max(SHORTEST_PAUSE_SECONDS, processor_seconds / SHARE_OF_A_PROCESSOR)
    unwatched = max(SHORTEST_UNWATCHED_SECONDS, processor_seconds / UNWATCHED_SHARE)
    return min(LONGEST_PAUSE_SECONDS, watched), min(LONGEST_PAUSE_SECONDS, unwatched)

"""Audits the system again and again, in a process of its own at low priority.

Its processor time is measured, and the pause that follows makes it a twentieth of one processor at the most; while
nobody has the page open, a tenth of that. While orders pour in it waits, and one that runs is broken off: the services
would have to read out their books besides. What seems wrong is audited once more before it is told: an audit does not
see the dead letters that somebody else holds just then.
"""

import asyncio
import json
import os
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
    sys.executable,
    "-c",
    "import typer; from control_room.operations.audit.command import audit_command; typer.run(audit_command)",
)
NICENESS = 10
SHARE_OF_A_PROCESSOR, UNWATCHED_SHARE = 0.05, 0.005
SHORTEST_PAUSE_SECONDS, SHORTEST_UNWATCHED_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 120.0, 900.0
MEASURE_SECONDS = 0.25
BUSY_PER_SECOND = 100.0
"""Orders accepted a second: from here on an audit waits."""
CARRIED_OUT = (0, 1)
"""Exit status: the books agree, or they do not."""

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What came of an audit. `report` is what `order-rail audit --json` prints; `at` is in seconds since 1970."""

    at: float
    took_seconds: float
    report: Mapping[str, Any]

    @property
    def is_clean(self) -> bool:
        return bool(self.report["clean"])


class Auditing:
    """`last` is the latest verdict, None before the first; `trouble` says why there is no newer one."""

    def __init__(
        self, addresses: SystemAddresses, arguments: tuple[str, ...], accepted: Callable[[], float], pace: Pace
    ) -> None:
        self.last: Verdict | None = None
        self.trouble = ""
        self.is_running = False
        self._is_suspicious = False
        self._environment = {**os.environ, **addresses.variables}
        self._arguments, self._accepted, self._pace = arguments, accepted, pace
        self._wanted = asyncio.Event()

    def ask(self) -> None:
        """Somebody wants the next one now."""
        self._wanted.set()

    async def run(self) -> None:
        """Audit and pause, until cancelled."""
        while True:
            if self._accepted() > BUSY_PER_SECOND:
                await self._pause(SHORTEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS)
                continue
            processor_seconds = await self._audit()
            if self._is_suspicious:
                processor_seconds += await self._audit()
            await self._pause(*pauses(processor_seconds))

    async def _audit(self) -> float:
        """One audit; the processor time that it took."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--json", *self._arguments,
            env=self._environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, preexec_fn=_humbly(),
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
        """Its processor time, measured until it ends: afterwards nobody knows. When a rush begins it is broken off."""
        spent = 0.0
        while process.returncode is None:
            try:
                times = psutil.Process(process.pid).cpu_times()
            except psutil.Error:
                return spent
            spent = times.user + times.system
            if self._accepted() > BUSY_PER_SECOND:
                signal_group(process, signal.SIGKILL)
            await asyncio.sleep(MEASURE_SECONDS)
        return spent

    def _conclude(self, status: int | None, output: bytes, errors: str, took_seconds: float) -> None:
        if status not in CARRIED_OUT:
            self.trouble = errors or f"the audit ended with status {status}"
            return
        verdict, self.trouble = Verdict(time.time(), took_seconds, json.loads(output)), ""
        if verdict.is_clean or self._is_suspicious:
            self.last = verdict
        self._is_suspicious = not verdict.is_clean and not self._is_suspicious
        if not verdict.is_clean:
            logger.error("audit.violations", first=verdict.report["violations"][:1])

    async def _pause(self, watched_seconds: float, unwatched_seconds: float) -> None:
        """Until it is time, or somebody wants the next audit now."""
        self._wanted.clear()
        waiting = [
            asyncio.ensure_future(each)
            for each in (self._wanted.wait(), self._pace.pause(watched_seconds, unwatched_seconds))
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()


def pauses(processor_seconds: float) -> tuple[float, float]:
    """How long to pause after an audit that took so much: while somebody has the page open, and while nobody has."""
    watched = max(SHORTEST_PAUSE_SECONDS, processor_seconds / SHARE_OF_A_PROCESSOR)
    unwatched = max(SHORTEST_UNWATCHED_SECONDS, processor_seconds / UNWATCHED_SHARE)
    return min(LONGEST_PAUSE_SECONDS, watched), min(LONGEST_PAUSE_SECONDS, unwatched)


def _humbly() -> Callable[[], None]:
    """What the child does first: it ends with us, and whoever has something to do goes before it."""
    pact = death_pact()

    def become() -> None:
        if pact is not None:
            pact()
        os.nice(NICENESS)

    return become

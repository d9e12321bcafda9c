"""The processes of the ways, as the lab sees them: each is started again whenever it ends, as a supervisor would."""

import asyncio
import itertools
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from control_room.background import running
from control_room.experiments.lab import LabFailed, record
from control_room.experiments.lab.record import Recorder
from control_room.launcher.children import kill

STARTER = (sys.executable, "-m", "control_room.experiments.lab.worker")
START_AGAIN_SECONDS = 0.05


@dataclass
class Hired:
    """A process; `status` is its exit status to come."""

    pid: int
    status: "asyncio.Future[int]"


class Starter:
    """Starts processes: see `worker.py`."""

    def __init__(self, requests: asyncio.StreamWriter, answers: asyncio.StreamReader) -> None:
        self._requests, self._answers = requests, answers
        self._tickets = itertools.count()
        self._asked: dict[int, asyncio.Future[Hired]] = {}
        self._hired: dict[int, Hired] = {}

    async def start(self, **what: str) -> Hired:
        """A new process of this way and role."""
        ticket = next(self._tickets)
        started: asyncio.Future[Hired] = asyncio.get_running_loop().create_future()
        self._asked[ticket] = started
        self._requests.write(json.dumps({"ticket": ticket, **what}).encode() + b"\n")
        return await started

    async def listen(self) -> None:
        """Until the starter ends."""
        async for line in self._answers:
            self._hear(json.loads(line))

    def _hear(self, told: Mapping[str, int]) -> None:
        if "started" in told:
            status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            hired = self._hired[told["pid"]] = Hired(told["pid"], status)
            self._asked.pop(told["started"]).set_result(hired)
        else:
            self._hired.pop(told["ended"]).status.set_result(told["status"])


@asynccontextmanager
async def starter(folder: Path, system: str, log: Path) -> AsyncIterator[Starter]:
    """What starts processes, until the block ends: then it and all of them are killed."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *STARTER, str(folder), system, stdin=PIPE, stdout=PIPE, stderr=output, start_new_session=True
        )
    try:
        if process.stdin is None or process.stdout is None:
            raise LabFailed("there is no way to talk with the process that starts the others")
        begun = Starter(process.stdin, process.stdout)
        async with running(begun.listen(), "lab starter"):
            yield begun
    finally:
        await kill(process)


class Worker:
    """One role of a way: a process, and the next one whenever it has ended, until it is dismissed."""

    def __init__(self, starter: Starter, what: Mapping[str, str], recorder: Recorder) -> None:
        self._starter, self._what, self._record = starter, what, recorder
        self._is_wanted, self._is_gone = asyncio.Event(), asyncio.Event()
        self._hired: Hired | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def role(self) -> str:
        return self._what["role"]

    @property
    def name(self) -> str:
        """Of its role, for people."""
        return {"produce": "producer", "consume": "consumer"}[self.role]

    @property
    def pid(self) -> int:
        """0 if there is none now."""
        return self._hired.pid if self._hired else 0

    def come(self) -> None:
        """Start it, now and whenever it ends."""
        self._is_wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"{self._what['way']} {self.role}")

    async def kill(self) -> tuple[int, int]:
        """SIGKILL; returns the process and its exit status. (0, 0) if there is none."""
        if (hired := self._hired) is None:
            return 0, 0
        with suppress(ProcessLookupError):
            os.kill(hired.pid, signal.SIGKILL)
        return hired.pid, await asyncio.shield(hired.status)

    async def stay_away(self) -> int:
        """Kill it, and do not start it again until `come`; returns the process."""
        self._is_wanted.clear()
        process, _ = await self.kill()
        await self._is_gone.wait()
        return process

    async def _keep(self) -> None:
        while True:
            self._is_gone.set()
            await self._is_wanted.wait()
            self._is_gone.clear()
            self._hired = await self._starter.start(**self._what)
            if not self._is_wanted.is_set():
                await self.kill()
            status = await self._hired.status
            self._record(record.ENDED, role=self.role, process=self._hired.pid, status=status)
            self._hired = None
            await asyncio.sleep(START_AGAIN_SECONDS if self._is_wanted.is_set() else 0)

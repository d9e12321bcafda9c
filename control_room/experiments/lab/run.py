"""All ways in the lab: first each alone, then all of them side by side through the same faults, on one broker."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from control_room.experiments.lab.points import AFTER_COMMIT, AFTER_EFFECT, BEFORE_COMMIT, BEFORE_EFFECT
from control_room.experiments.lab.record import lines_of, outcome_of
from control_room.experiments.lab.report import LabReport
from control_room.experiments.lab.staff import starter
from control_room.experiments.lab.systems import System
from control_room.experiments.lab.systems.rabbitmq import RabbitMQ
from control_room.experiments.lab.systems.redis import Redis
from control_room.experiments.lab.trial import Stage, Trial
from control_room.experiments.lab.ways import RABBITMQ, WAYS, SystemName

FAULTY_ROUNDS = 7
OUTAGE_SECONDS = 1.0


class Lab:
    """A run: `report` fills while it goes on, `phase` says in words where it is."""

    def __init__(self, report: LabReport, directory: Path) -> None:
        self.report, self.directory, self.phase = report, directory, "starting"
        self.trials: Sequence[Trial] = ()
        self._last = 0

    async def run(self) -> None:
        """Raises `LabFailed`, `LaunchError`, `BrokerUnavailable`, `httpx.HTTPError`."""
        async with self._prepared() as system:
            alone, few = self._sizes()
            self._let_in(alone)
            for trial in self.trials:
                self.phase = f"{trial.way.name} alone"
                await trial.alone(self._last)
            self.phase = "side by side, through the same faults"
            await self._kill(few)
            await self._restart(system, few)
            await self._lose_courier(few)
            await self._spoil(system, few)
            self.phase = "counting"
            await self._all(Trial.finish)
        for trial in self.trials:
            self.report.outcomes[trial.way.name] = outcome_of(lines_of(trial.file))

    def _sizes(self) -> tuple[int, int]:
        """Orders of the round without faults, and of each with one."""
        few = self.report.orders // (2 * FAULTY_ROUNDS)
        return self.report.orders - FAULTY_ROUNDS * few, few

    def _let_in(self, more: int) -> int:
        self._last += more
        return self._last

    async def _all(self, step: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> list[Any]:
        """All ways at once."""
        return await at_once([step(trial, *arguments) for trial in self.trials])

    async def _kill(self, few: int) -> None:
        for step, at in (
            (Trial.kill_producer, AFTER_COMMIT),
            (Trial.kill_producer, BEFORE_COMMIT),
            (Trial.kill_consumer, BEFORE_EFFECT),
            (Trial.kill_consumer, AFTER_EFFECT),
        ):
            await self._all(step, at, self._let_in(few))

    async def _restart(self, system: System, few: int) -> None:
        """Messages wait; the system freezes, while customers go on coming; it is killed, and started again."""
        first, second = -(-few // 3), -(-few // 3)
        waiting = await self._all(Trial.fill, self._let_in(first))
        await asyncio.sleep(max(0.0, self._declared_at + system.is_safe_after_seconds - time.monotonic()))
        server = system.pid
        system.freeze()
        sent = await self._all(Trial.go_on_frozen, self._let_in(second))
        await system.restart()
        last = self._let_in(few - first - second)
        servers = {"server": server, "new_server": system.pid}
        seen = [
            {**servers, "ready": each, "sent_while_frozen": frozen} for each, frozen in zip(waiting, sent, strict=True)
        ]
        await at_once([trial.recover(last, each) for trial, each in zip(self.trials, seen, strict=True)])

    async def _lose_courier(self, few: int) -> None:
        since = time.monotonic()
        await self._all(Trial.lose_courier, self._let_in(few))
        await asyncio.sleep(max(0.0, since + OUTAGE_SECONDS - time.monotonic()))
        await self._all(Trial.regain_courier)

    async def _spoil(self, system: System, few: int) -> None:
        for trial in self.trials:
            await system.put_rubbish(trial.kitchen_queue)
        await self._all(Trial.meet_rubbish, self._let_in(few))

    @asynccontextmanager
    async def _prepared(self) -> AsyncIterator[System]:
        """The system runs, and the ways have their queues. Nothing of it is left."""
        log = self.directory / "processes.log"
        with tempfile.TemporaryDirectory(prefix="order-rail-lab-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            async with starter(folder, self.report.system, log) as hires, _system(self.report.system, folder) as system:
                stage = Stage(system, folder, log, hires)
                self.trials = [Trial(WAYS[way], stage, self.directory / f"{way}.ndjson") for way in self.report.ways]
                try:
                    await self._declare(system)
                    yield system
                finally:
                    for trial in self.trials:
                        trial.close()

    async def _declare(self, system: System) -> None:
        self.phase = "declaring queues"
        taken = dict(zip(self.trials, await self._all(Trial.declare), strict=True))
        self.trials = [trial for trial in taken if taken[trial]]
        refused = [trial for trial in taken if not taken[trial]]
        self.report.refused = [trial.way.name for trial in refused]
        for trial in refused:
            trial.close()
        self._declared_at = time.monotonic()
        for trial in self.trials:
            trial.queues = await system.queues_of(trial.way)


def _system(name: SystemName, folder: Path) -> System:
    return RabbitMQ(folder) if name == RABBITMQ else Redis(folder)


async def at_once(steps: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of the steps. The first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]

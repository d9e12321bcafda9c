"""Faults of the services' databases."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from control_room.experiments.chaos.faults.scene import Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.launcher.children import end, spawn

COMMITS = "order_rail_group_commits_total"
# The service that writes a database, and what it calls it in its metrics.
WRITERS = {
    "order_service": ("order_service", "orders"),
    "payment_service": ("payment_service", "payments"),
    "gateway": ("payment_service", "gateway"),
    "notification_service": ("notification_service", "notifications"),
}
SETTLE_SECONDS = 0.3
"""For a commit that was under way when the lock was taken to be counted."""


async def database_locked(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Another process holds the write lock of a database: nobody else can write it."""
    try:
        async with locked(scene, fall.target, fall.seconds) as sentence:
            marks.begin()
            marks.saw(sentence)
            await asyncio.sleep(SETTLE_SECONDS)
            before = await _commits(scene, fall.target)
            await asyncio.sleep(fall.seconds - 2 * SETTLE_SECONDS)
            during = await _commits(scene, fall.target)
    finally:
        marks.end()
    if during != before:
        raise NoEvidence(f"{during - before:g} transactions were committed to {fall.target} under the lock")
    await _goes_on(scene, fall.target, during, marks)


@asynccontextmanager
async def locked(scene: Scene, database: str, seconds: float) -> AsyncIterator[str]:
    """Another process holds the write lock for so long, at least until the block ends; a sentence about it."""
    run = scene.system.run
    file, log = run.path / f"{database}.db", run.log(f"lock-{time.monotonic_ns()}")
    command = [sys.executable, "-m", "control_room.experiments.chaos.store", str(file), str(seconds)]
    holder = await spawn(command, os.environ, log)
    try:
        await scene.until(lambda: _has_said(log, "locked"), f"process {holder.pid} to lock {file.name}")
        yield f"process {holder.pid} held the lock of {file.name} for {seconds} s"
        await scene.until(lambda: _has_said(log, "released"), "the lock to be released")
    finally:
        await end(holder, grace_seconds=1)


async def _goes_on(scene: Scene, database: str, before: float, marks: Marks) -> None:
    service, label = WRITERS[database]
    after = await scene.until_counted(service, COMMITS, {"database": label}, before + 1)
    marks.saw(f"{service} committed nothing to it meanwhile, and {after - before:g} transactions soon after")


async def _commits(scene: Scene, database: str) -> float:
    service, label = WRITERS[database]
    return await scene.counter(service, COMMITS, {"database": label})


async def _has_said(log: Path, word: str) -> bool:
    return word in log.read_text(errors="replace").split()


FAULTS = (
    Fault(
        Kind("database-locked", tuple(WRITERS), (3.0, 9.0), 8),
        "Another process holds the write lock of a database",
        database_locked,
    ),
)

"""Faults of the machine under a service: a disk that takes no more, a clock that is wrong."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import psutil

from control_room.experiments.chaos.faults.scene import Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.launcher.system import SERVICES

NO_BYTES = 0
HOUR_SECONDS = 3600
RESTART_PATIENCE_SECONDS = 40.0
"""The launcher waits a little longer each time before it starts a service that ends again and again."""
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
WHO_IS_WRONG = {f"{service} {way}": (service, sign) for service in SERVICES for way, sign in
                (("ahead", "+"), ("behind", "-"))}  # fmt: skip


async def disk_full(scene: Scene, fall: Fall, marks: Marks) -> None:
    """No file of the service may grow any more; the kernel refuses the writes."""
    process = psutil.Process(scene.process(fall.target).pid)
    allowed = process.rlimit(psutil.RLIMIT_FSIZE)

    async def says_so() -> str:
        return (await scene.watch.unready()).get(fall.target, "")

    marks.begin()
    process.rlimit(psutil.RLIMIT_FSIZE, (NO_BYTES, allowed[1]))
    try:
        problem = await scene.until(says_so, f"{fall.target} to say in /readyz that it can't write")
        await asyncio.sleep(fall.seconds)
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, allowed)
        marks.end()
    marks.saw(f"{fall.target} said in /readyz: {problem[:120]}")


async def clock_wrong(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The service is started again with a clock that is an hour wrong, and later with the right one."""
    service, sign = WHO_IS_WRONG[fall.target]
    fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{sign}{HOUR_SECONDS}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    marks.begin()
    try:
        async with _restarted_with(scene, service, fake):
            wrong_by = await scene.until(lambda: _wrong_by_seconds(scene, service), f"{service} to tell the wrong time")
            await asyncio.sleep(fall.seconds)
    finally:
        marks.end()
    if not 0.9 * HOUR_SECONDS < wrong_by * int(f"{sign}1") < 1.1 * HOUR_SECONDS:
        raise NoEvidence(f"the clock of {service} was wrong by {wrong_by:.0f} s")
    marks.saw(f"the Date of its answers was wrong by {wrong_by:.0f} s; {await scene.orders_in_flight()}")


async def _wrong_by_seconds(scene: Scene, service: str) -> float:
    answer = await scene.watch.http.get(f"{scene.system.url(service)}/livez")
    return (parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)).total_seconds()


@asynccontextmanager
async def _restarted_with(scene: Scene, service: str, variables: Mapping[str, str]) -> AsyncIterator[None]:
    """Stopped in order and started with these variables besides; again without them when the block ends."""
    process = scene.process(service)
    plain = process.environment
    process.environment = {**plain, **variables}
    try:
        await _restart(scene, service)
        yield
    finally:
        process.environment = plain
        await _restart(scene, service)


async def _restart(scene: Scene, service: str) -> None:
    process, pid = scene.process(service), scene.process(service).pid
    os.kill(pid, signal.SIGTERM)

    async def answers() -> bool:
        return process.pid != pid and service not in await scene.watch.unready()

    await scene.until(answers, f"{service} to be started again", RESTART_PATIENCE_SECONDS)


def _without_faketime() -> str:
    return "" if FAKETIME else "libfaketime is not installed (Debian: apt-get install libfaketime)"


FAULTS = (
    Fault(Kind("disk-full", SERVICES, (1, 5), 12), "No file of a service may grow any more", disk_full),
    Fault(
        Kind("clock-wrong", tuple(WHO_IS_WRONG), (2, 4), 14),
        "A service whose clock is an hour ahead or behind",
        clock_wrong,
        _without_faketime,
    ),
)

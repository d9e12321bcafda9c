"""Faults of the machine under a service: a disk that takes no more, a clock that is wrong."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import psutil

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import RESTART_TIMEOUT_SECONDS, SERVICES, NoEvidence, SystemUnderTest

NO_BYTES = 0
HOUR_SECONDS = 3600
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
WRONG_CLOCKS = {
    f"{service} {direction}": (service, sign)
    for service in SERVICES
    for direction, sign in (("ahead", 1), ("behind", -1))
}
"""By target: the service, and the sign of its clock's error."""


@fault("disk-full", SERVICES, lasts_seconds=(1, 5), allowance_seconds=12)
async def disk_full(system: SystemUnderTest, injection: Injection) -> None:
    """No file of a service may grow any more; the kernel refuses the writes."""
    process = psutil.Process(system.process(injection.target).pid)
    allowed = process.rlimit(psutil.RLIMIT_FSIZE)

    limit = partial(process.rlimit, psutil.RLIMIT_FSIZE)
    async with injection.applied(lambda: limit((NO_BYTES, allowed[1])), lambda: limit(allowed)):
        expecting = f"{injection.target} to say in /readyz that it can't write"
        problem = await system.until(lambda: system.problem(injection.target), expecting)
        await asyncio.sleep(injection.seconds)
    injection.saw(f"{injection.target} said in /readyz: {problem[:120]}")


@fault(
    "clock-wrong",
    tuple(WRONG_CLOCKS),
    lasts_seconds=(2, 4),
    allowance_seconds=14,
    missing=lambda: "" if FAKETIME else "libfaketime is not installed (Debian: apt-get install libfaketime)",
)
async def clock_wrong(system: SystemUnderTest, injection: Injection) -> None:
    """A service whose clock is an hour ahead or behind; it is started again for that, and afterwards."""
    service, sign = WRONG_CLOCKS[injection.target]
    error_seconds = f"{sign * HOUR_SECONDS:+d}"
    fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": error_seconds, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with injection.active():
        async with _restarted_with(system, service, fake):
            wrong_by = await system.until(
                lambda: _wrong_by_seconds(system, service), f"{service} to say what time it is"
            )
            await asyncio.sleep(injection.seconds)
    if not 0.9 * HOUR_SECONDS < wrong_by * sign < 1.1 * HOUR_SECONDS:
        raise NoEvidence(f"the clock of {service} was wrong by {wrong_by:.0f} s")
    injection.saw(f"the Date of its answers was wrong by {wrong_by:.0f} s; {await system.orders_in_flight()}")


async def _wrong_by_seconds(system: SystemUnderTest, service: str) -> float:
    answer = await system.client.http.get(f"{system.system.url(service)}/livez")
    return (parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)).total_seconds()


@asynccontextmanager
async def _restarted_with(system: SystemUnderTest, service: str, variables: Mapping[str, str]) -> AsyncIterator[None]:
    """Stopped in order and started with these variables besides; again without them when the block ends."""
    process = system.process(service)
    plain = process.environment
    process.environment = {**plain, **variables}
    try:
        await _restart(system, service)
        yield
    finally:
        process.environment = plain
        await _restart(system, service)


async def _restart(system: SystemUnderTest, service: str) -> None:
    await system.restart(service)
    expecting = f"{service} to be ready again"
    await system.until(
        lambda: system.problem(service), expecting, RESTART_TIMEOUT_SECONDS, is_seen=lambda problem: not problem
    )

"""Run a load program, and read what it prints."""

import asyncio
import json
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.bench import Scale
from benchmarks.contenders import REPOSITORY
from benchmarks.stage import MeasurementFailed, Scene
from control_room.launcher.children import death_pact, kill

PROGRAM_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class ClosedLoad:
    """What a closed load saw. `processor_share`: how much of one core the load itself took."""

    accepted: int
    answered: int
    refused: int
    first_refusal: str
    seconds: float
    rate: float
    p50_seconds: float
    p99_seconds: float
    processor_share: float


async def place_for_a_while(scene: Scene, scale: Scale, url: str = "") -> ClosedLoad:
    """Place orders for the time that the scale says. Raises MeasurementFailed if one is refused.

    `url`: where they are placed, if that is not the contender itself.
    """
    warm_up, seconds = str(scale.warm_up_seconds), str(scale.accept_seconds)
    return await _closed(scene, scale, "--warm-up-seconds", warm_up, "--seconds", seconds, url=url)


async def place_many(scene: Scene, scale: Scale, orders: int) -> ClosedLoad:
    """Place so many orders as fast as they are taken. Raises MeasurementFailed if one is refused."""
    return await _closed(scene, scale, "--orders", str(orders))


async def _closed(scene: Scene, scale: Scale, *options: str, url: str = "") -> ClosedLoad:
    connections = ("--connections", str(scale.connections))
    output = await run_program("benchmarks.load.closed", url or scene.url, *connections, *options)
    load = ClosedLoad(**json.loads(output))
    if load.refused:
        raise MeasurementFailed(f"{scene.contender.title} refused {load.refused} orders: {load.first_refusal}")
    return load


async def run_program(module: str, *arguments: str) -> str:
    """What `python -m module` prints. Raises MeasurementFailed if it fails, or does not end."""
    process = await _started(module, *arguments)
    try:
        async with asyncio.timeout(PROGRAM_TIMEOUT_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        raise MeasurementFailed(f"{module} did not end within {PROGRAM_TIMEOUT_SECONDS:g} s") from None
    finally:
        await kill(process)
    if process.returncode != 0:
        raise MeasurementFailed(f"{module} ended with {process.returncode}: {errors.decode(errors='replace')[-1000:]}")
    return output.decode()


@asynccontextmanager
async def program_running(module: str, *arguments: str) -> AsyncIterator[None]:
    """`python -m module` while the block runs."""
    process = await _started(module, *arguments)
    try:
        yield
    finally:
        await kill(process)


async def _started(module: str, *arguments: str) -> Process:
    return await create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        cwd=REPOSITORY, stdout=PIPE, stderr=PIPE, start_new_session=True, preexec_fn=death_pact(),
    )  # fmt: skip

"""footprint: how long each program takes until it is ready, and its memory, idle and under full load.

Programs are started one after the other, so that none waits for another's processor. Idle is the memory some seconds
after the last one was ready; loaded is the most that was seen while orders came as fast as they were taken.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.bench import Bench
from benchmarks.load.run import place_for_a_while
from benchmarks.stage import Scene

NAME = "footprint"
MEBIBYTE = 2**20
POLL_SECONDS = 0.25


async def measure_round(bench: Bench, round_number: int) -> None:
    """Everyone once."""
    for contender in bench.in_turn(round_number):
        bench.say(f"{NAME}: {contender.title}")
        async with bench.scene(contender) as scene:
            for program in contender.programs:
                seconds = (await scene.start([program]))[program.name]
                bench.add(NAME, contender.name, f"{program.name}: to ready", "s", seconds)
            await asyncio.sleep(bench.scale.idle_seconds)
            _add(bench, contender.name, "idle", scene.memory())
            async with peak_memory(scene) as peak:
                await place_for_a_while(scene, bench.scale)
            _add(bench, contender.name, "loaded", peak)


@asynccontextmanager
async def peak_memory(scene: Scene) -> AsyncIterator[dict[str, int]]:
    """The most bytes that each program had while the block ran; whole only after it."""
    peak = scene.memory()

    async def watch() -> None:
        while True:
            for name, bytes_ in scene.memory().items():
                peak[name] = max(peak.get(name, 0), bytes_)
            await asyncio.sleep(POLL_SECONDS)

    watching = asyncio.create_task(watch(), name="memory")
    try:
        yield peak
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _add(bench: Bench, contender: str, when: str, memory: dict[str, int]) -> None:
    for program, bytes_ in memory.items():
        bench.add(NAME, contender, f"{program}: {when}", "MiB", bytes_ / MEBIBYTE)

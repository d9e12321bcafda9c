"""watching: what those who watch cost, and whether they see what happens.

`accept` as elsewhere, but with all services at work: once with nobody watching, once with the control room and a viewer
of it. The viewer draws nothing. Then 50 people follow one order's stream in the shop while orders are placed twice, and
the order service's memory after the second time is compared with that after the first.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import httpx

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.contenders import CONTROL_ROOM, ORDER_RAIL
from benchmarks.footprint import MEBIBYTE
from benchmarks.load.order import ORDER
from benchmarks.load.run import ClosedLoad, place_for_a_while, run_program
from benchmarks.stage import Scene

NAME = "watching"
WATCHED = replace(ORDER_RAIL, workers=(*ORDER_RAIL.workers, CONTROL_ROOM))
STREAMS = 50


async def measure_round(bench: Bench, round_number: int) -> None:
    """Both, the other one first each round; then the streams."""
    for contender in (ORDER_RAIL, WATCHED) if round_number % 2 else (WATCHED, ORDER_RAIL):
        watched = contender is WATCHED
        bench.say(f"{NAME}: {'the control room and a viewer' if watched else 'nobody'}")
        async with bench.scene(contender) as scene:
            await scene.start_web()
            await scene.start_workers()
            placing = _place_while_somebody_watches(bench, scene) if watched else place_for_a_while(scene, bench.scale)
            load = await placing
            _add(bench, f"accept, {'watched' if watched else 'not watched'}", "orders/s", load.rate)
    await _measure_streams(bench)


async def _place_while_somebody_watches(bench: Bench, scene: Scene) -> ClosedLoad:
    seconds = bench.scale.warm_up_seconds + bench.scale.accept_seconds
    output, load = await asyncio.gather(
        run_program("benchmarks.load.viewer", scene.url_of(CONTROL_ROOM.name), "--seconds", str(seconds)),
        place_for_a_while(scene, bench.scale),
    )
    _add(bench, "longest time between two updates", "s", json.loads(output)["longest_gap_seconds"])
    return load


async def _measure_streams(bench: Bench) -> None:
    bench.say(f"{NAME}: {STREAMS} streams of one order")
    async with bench.scene(ORDER_RAIL) as scene:
        await scene.start_web()  # nobody pays, so the order's story does not end
        async with _streams(scene):
            placed = 1  # the one that is followed
            for when in ("first", "later"):
                placed += (await place_for_a_while(scene, bench.scale)).accepted
                await wait_for_arrival(scene, placed)
                memory = scene.memory()[ORDER_RAIL.web.name]
                _add(bench, f"memory with {STREAMS} streams, {when}", "MiB", memory / MEBIBYTE)


@asynccontextmanager
async def _streams(scene: Scene) -> AsyncIterator[None]:
    """One order, followed by so many at the same time."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=scene.url, trust_env=False, timeout=30))
        placed = await http.post("/orders", content=ORDER, headers={"Content-Type": "application/json"})
        location = placed.raise_for_status().headers["Location"]
        for _ in range(STREAMS):
            await stack.enter_async_context(http.stream("GET", f"{location}/events"))
        yield


def _add(bench: Bench, name: str, unit: str, value: float) -> None:
    bench.add(NAME, ORDER_RAIL.name, name, unit, value)

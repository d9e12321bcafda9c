"""at work: how many orders a second are taken while all services work on them, from a closed load of 64 connections.

Order Rail alone. The gateway has no latency. `confirmed` counts the orders that went all the way by the end of the
load; the rest would follow.
"""

import time
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL
from benchmarks.load.run import place_for_a_while
from benchmarks.progress import count_finished

NAME = "at_work"


async def measure_round(bench: Bench, _round_number: int) -> None:
    """Once."""
    bench.say(f"{NAME}: {ORDER_RAIL.title}")
    async with bench.scene(ORDER_RAIL) as scene:
        await scene.start_web()
        await scene.start_workers()
        began = time.perf_counter()
        load = await place_for_a_while(scene, replace(bench.scale, accept_seconds=bench.scale.at_work_seconds))
        confirmed, seconds = count_finished(scene), time.perf_counter() - began
    bench.add(NAME, ORDER_RAIL.name, "rate", "orders/s", load.rate)
    bench.add(NAME, ORDER_RAIL.name, "p50", "ms", load.p50_seconds * 1000)
    bench.add(NAME, ORDER_RAIL.name, "p99", "ms", load.p99_seconds * 1000)
    bench.add(NAME, ORDER_RAIL.name, "confirmed", "orders/s", confirmed / seconds)

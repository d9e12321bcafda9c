"""latency: from the moment when a customer came to the moment when the customer was notified, at a steady load.

An open load, so a contender that falls behind can't hide it: the wait counts from when the order was due. The end is
the time that the notification's record carries, in Order Rail as in its peers: before the commit, after the sending.
"""

import asyncio
import json
import time
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.load.run import run_program
from benchmarks.progress import notified_at
from benchmarks.stage import MeasurementFailed, Scene
from control_room.text import percentile

NAME = "latency"
WARM_UP_SECONDS = 3.0
STALLED_AFTER_SECONDS = 60.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class OpenLoad:
    """When each order was due, in seconds since the epoch."""

    due_at: dict[str, float]
    refused: int
    processor_share: float
    answered_seconds: dict[str, float]


async def measure_round(bench: Bench, round_number: int) -> None:
    """Everyone once, at each rate."""
    for contender in bench.in_turn(round_number):
        async with bench.scene(contender) as scene:
            await scene.start_web()
            await scene.start_workers()
            for rate in bench.scale.rates:
                bench.say(f"{NAME}: {contender.title} at {rate} orders/s")
                await _load(scene, rate, min(WARM_UP_SECONDS, bench.scale.latency_seconds))
                load = await _load(scene, rate, bench.scale.latency_seconds)
                _add(bench, contender.name, rate, load, await _until_all_are_notified(scene, load))


async def _load(scene: Scene, rate: int, seconds: float) -> OpenLoad:
    output = await run_program("benchmarks.load.open", scene.url, "--rate", str(rate), "--seconds", str(seconds))
    load = OpenLoad(**json.loads(output))
    if load.refused:
        raise MeasurementFailed(f"{scene.contender.title} refused {load.refused} orders at {rate} orders/s")
    return load


async def _until_all_are_notified(scene: Scene, load: OpenLoad) -> list[float]:
    """The seconds that each took, ascending. Raises MeasurementFailed if they stop on the way."""
    notified, changed_at = notified_at(scene), time.perf_counter()
    while missing := load.due_at.keys() - notified.keys():
        scene.check_alive()
        if time.perf_counter() > changed_at + STALLED_AFTER_SECONDS:
            raise MeasurementFailed(f"{scene.contender.title}: {len(missing)} customers are never notified")
        await asyncio.sleep(POLL_SECONDS)
        now_notified = notified_at(scene)
        if len(now_notified) > len(notified):
            changed_at = time.perf_counter()
        notified = now_notified
    return sorted(notified[order_id] - due_at for order_id, due_at in load.due_at.items())


def _add(bench: Bench, contender: str, rate: int, load: OpenLoad, seconds: list[float]) -> None:
    add = bench.add
    add(NAME, contender, f"p50 at {rate}/s", "ms", percentile(seconds, 50) * 1000)
    add(NAME, contender, f"p99 at {rate}/s", "ms", percentile(seconds, 99) * 1000)
    add(NAME, contender, f"load generator at {rate}/s", "% of a core", load.processor_share * 100)

"""drain: how many orders a second go all the way, from a backlog of placed orders to the last one confirmed.

What takes the orders runs alone until the whole backlog is in the first queue; then the workers start. The gateway has
no latency. All counts from the first order that is finished, so that starting a program does not count. Processor time
is that of all programs of the contender, and apart from it that of the servers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.load.run import place_many
from benchmarks.progress import count_finished
from benchmarks.stage import MeasurementFailed, Scene

NAME = "drain"
STALLED_AFTER_SECONDS = 60.0
POLL_SECONDS = 0.1
POLL_REST = 20
"""So many times as long as it took to count the finished: else counting a large backlog would be half of the load."""


@dataclass(frozen=True)
class Drained:
    """The orders that were finished after the first look, and their rate a second; all, if that look saw them all."""

    orders: int
    rate: float
    seconds: float


async def measure_round(bench: Bench, round_number: int) -> None:
    """Everyone once."""
    for contender in bench.in_turn(round_number):
        bench.say(f"{NAME}: {contender.title}")
        async with bench.scene(contender) as scene:
            backlog = bench.scale.backlog if contender.is_order_rail else bench.scale.peer_backlog
            await _measure(bench, scene, backlog)


async def _measure(bench: Bench, scene: Scene, backlog: int) -> None:
    await scene.start_web()
    await place_many(scene, bench.scale, backlog)
    await wait_for_arrival(scene, backlog)
    processor_began = bench.stage.processor_seconds(scene)
    await scene.start_workers()
    drained = await drain(scene, backlog, at_first=lambda: processor_began.update(bench.stage.processor_seconds(scene)))
    processor_ended = bench.stage.processor_seconds(scene)
    add, name = bench.add, scene.contender.name
    add(NAME, name, "rate", "orders/s", drained.rate)
    add(NAME, name, "handled deliveries", "deliveries/s", drained.rate * scene.contender.deliveries)
    add(NAME, name, "backlog", "orders", backlog)
    for server, ended in processor_ended.items():
        quantity = f"processor time of {server}" if server else "processor time"
        add(NAME, name, quantity, "ms/order", (ended - processor_began[server]) / drained.orders * 1000)


async def drain(
    scene: Scene, orders: int, after_order_id: str = "", at_first: Callable[[], None] = lambda: None
) -> Drained:
    """Wait until so many orders after that one are finished. Raises MeasurementFailed if they stop on the way.

    `at_first` is called at the first look that sees some of them finished, unless it sees them all.
    """
    changes, asked_at = _progress(scene, after_order_id), time.perf_counter()
    began, finished_at_first = now, finished = await anext(changes)
    if finished >= orders:
        began, finished_at_first = asked_at, 0
    else:
        at_first()
    while finished < orders:
        now, finished = await anext(changes)
    seconds = now - began
    return Drained(finished - finished_at_first, (finished - finished_at_first) / seconds, seconds)


async def _progress(scene: Scene, after_order_id: str) -> AsyncIterator[tuple[float, int]]:
    """When, by `time.perf_counter`, how many were finished: each time that it is another number than before."""
    changed_at, before = time.perf_counter(), 0
    while True:
        now, finished = time.perf_counter(), count_finished(scene, after_order_id)
        if finished != before:
            changed_at, before = now, finished
            yield now, finished
        scene.check_alive()
        if now > changed_at + STALLED_AFTER_SECONDS:
            raise MeasurementFailed(f"{scene.contender.title}: {finished} orders are finished, and no more come")
        await asyncio.sleep(max(POLL_SECONDS, POLL_REST * (time.perf_counter() - now)))

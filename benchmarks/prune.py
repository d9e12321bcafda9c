"""prune: whether customers notice that old orders are deleted.

A million orders of long ago are in the databases, each placed with an idempotency key. Orders come in at a steady rate,
all services work on them, and each answer's latency counts from when its order was due. A few windows of that, then
twice as many with `order-rail prune` beside it, which is ended after them: on purpose it takes a third of an hour for a
million orders. The load is an open one, so a stall of the service shows in every order that was due meanwhile.
"""

import json
import shutil
import time
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL, PRUNE, Query
from benchmarks.history import past_order_id, write_past
from benchmarks.load.run import run_program
from benchmarks.progress import rows_of
from benchmarks.stage import MeasurementFailed, Scene

NAME = "prune"
PRUNED = replace(ORDER_RAIL, workers=(*ORDER_RAIL.workers, PRUNE))
BEFORE, MEANWHILE = "before", "while old orders are pruned"
OLD_ORDERS = Query("order_service", "SELECT count(*) FROM orders WHERE order_id <= ?")


async def measure_round(bench: Bench, round_number: int) -> None:
    """Windows before, and while the past is pruned."""
    directory, orders = bench.directory / f"old-{round_number}", bench.scale.history
    bench.say(f"{NAME}: writing {orders:,} old orders into the databases")
    write_past(directory, orders, with_keys=True)
    async with bench.scene(PRUNED, directory) as scene:
        await scene.start_web()
        await scene.start(ORDER_RAIL.workers)
        await _window(bench, scene, None)
        for _ in range(bench.scale.prune_windows):
            await _window(bench, scene, BEFORE)
        began = time.perf_counter()
        await scene.start([PRUNE])
        for _ in range(2 * bench.scale.prune_windows):
            await _window(bench, scene, MEANWHILE)
        scene.has_ended(PRUNE)  # raises if it failed
        seconds = time.perf_counter() - began
        ((left,),) = rows_of(scene, OLD_ORDERS, past_order_id(orders))
    if left == orders:
        raise MeasurementFailed(f"none of {orders:,} old orders was pruned in {seconds:.0f} s")
    bench.add(NAME, ORDER_RAIL.name, "pruned by the order service", "orders/s", (orders - left) / seconds)
    shutil.rmtree(directory)


async def _window(bench: Bench, scene: Scene, when: str | None) -> None:
    """Place orders for a while. `when` is None for a window that warms up."""
    rate, seconds = bench.scale.prune_rate, bench.scale.prune_window_seconds
    if when:
        bench.say(f"{NAME}: {rate} orders/s, {when}")
    output = json.loads(
        await run_program("benchmarks.load.open", scene.url, "--rate", str(rate), "--seconds", str(seconds))
    )
    if output["refused"]:
        raise MeasurementFailed(f"{output['refused']} orders were refused at {rate} orders/s")
    for percentile in ("p50", "p99") if when else ():
        value = output["answered_seconds"][percentile] * 1000
        bench.add(NAME, ORDER_RAIL.name, f"accept, {percentile}, {when}", "ms", value)

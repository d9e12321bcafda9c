"""prune: whether customers notice that old orders are deleted.

A million orders of long ago are in the databases, each placed with an idempotency key. Orders come in at a steady rate,
all services work on them, and each answer's latency counts from when its order was due. Beside that `order-rail prune`
runs in every other window and is frozen in the others, so that whatever else changes on the machine changes both. It is
ended after the last window: on purpose it takes long for a million orders. The load is an open one, so a stall of the
service shows in every order that was due meanwhile.
"""

import json
import shutil
import signal
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
WITHOUT, MEANWHILE = "without pruning", "while old orders are pruned"
OLD_ORDERS = Query("order_service", "SELECT count(*) FROM orders WHERE order_id <= ?")


async def measure_round(bench: Bench, round_number: int) -> None:
    """Windows with pruning and without it, in turn."""
    directory, orders = bench.directory / f"old-{round_number}", bench.scale.history
    bench.say(f"{NAME}: writing {orders:,} old orders into the databases")
    write_past(directory, orders, with_keys=True)
    async with bench.scene(PRUNED, directory) as scene:
        await scene.start_web()
        await scene.start([*ORDER_RAIL.workers, PRUNE])
        while _left(scene, orders) == orders and not scene.has_ended(PRUNE):
            await _window(bench, scene, None)
        pruned, seconds = 0, 0.0
        for _ in range(bench.scale.prune_windows):
            if scene.has_ended(PRUNE):
                raise MeasurementFailed(f"all of {orders:,} old orders were pruned before the last window")
            scene.signal(PRUNE, signal.SIGSTOP)
            await _window(bench, scene, WITHOUT)
            left, began = _left(scene, orders), time.perf_counter()
            scene.signal(PRUNE, signal.SIGCONT)
            await _window(bench, scene, MEANWHILE)
            pruned += left - _left(scene, orders)
            seconds += time.perf_counter() - began
    bench.add(NAME, ORDER_RAIL.name, "pruned by the order service", "orders/s", pruned / seconds)
    shutil.rmtree(directory)


def _left(scene: Scene, orders: int) -> int:
    ((left,),) = rows_of(scene, OLD_ORDERS, past_order_id(orders))
    return int(left)


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

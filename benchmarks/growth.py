"""growth: whether Order Rail becomes slower or larger with what it already holds.

`accept` and `drain` as elsewhere, first with empty databases and with a million finished orders in them, then with a
small and a large backlog. The backlog is in the outbox when the order service starts, which then publishes it; after
that it takes new orders, and at last the others start and work on the backlog. Memory is the most that was seen.
"""

from pathlib import Path

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL
from benchmarks.drain import drain
from benchmarks.footprint import MEBIBYTE, peak_memory
from benchmarks.history import place_backlog, write_past
from benchmarks.load.run import place_for_a_while
from benchmarks.progress import last_order_id
from benchmarks.stage import Scene

NAME = "growth"


async def measure_round(bench: Bench, _round_number: int) -> None:
    """Empty and full databases, then a small and a large backlog."""
    await _with_past(bench, 0, None)
    await _with_past(bench, bench.scale.history, _past(bench))
    for backlog in bench.scale.backlogs:
        await _with_backlog(bench, backlog)


def _past(bench: Bench) -> Path:
    """Written by the first round, and used by the others too: what they add to it is little."""
    directory = bench.directory / "past"
    if not directory.exists():
        bench.say(f"{NAME}: writing {bench.scale.history:,} orders into the databases")
        write_past(directory, bench.scale.history)
    return directory


async def _with_past(bench: Bench, orders: int, databases: Path | None) -> None:
    bench.say(f"{NAME}: {orders:,} orders in the databases")
    async with bench.scene(ORDER_RAIL, databases) as scene:
        await scene.start_web()
        await _accept_and_drain(bench, scene, f"{orders:,} orders", 0)


async def _with_backlog(bench: Bench, backlog: int) -> None:
    bench.say(f"{NAME}: a backlog of {backlog:,} orders")
    async with bench.scene(ORDER_RAIL) as scene:
        place_backlog(scene.databases["order_service"], backlog)
        await scene.start_web()
        await wait_for_arrival(scene, backlog)
        async with peak_memory(scene) as peak:
            await _accept_and_drain(bench, scene, f"backlog {backlog:,}", backlog)
    for program, bytes_ in peak.items():
        bench.add(NAME, ORDER_RAIL.name, f"memory of {program}, backlog {backlog:,}", "MiB", bytes_ / MEBIBYTE)


async def _accept_and_drain(bench: Bench, scene: Scene, when: str, backlog: int) -> None:
    """Take new orders, then work: on all of them, or on as many of the backlog as elsewhere."""
    last_before = last_order_id(scene) if backlog == 0 else ""
    load = await place_for_a_while(scene, bench.scale)
    bench.add(NAME, ORDER_RAIL.name, f"accept, {when}", "orders/s", load.rate)
    await wait_for_arrival(scene, backlog + load.accepted)
    await scene.start_workers()
    drained = await drain(scene, min(bench.scale.backlog, backlog + load.accepted), last_before)
    bench.add(NAME, ORDER_RAIL.name, f"drain, {when}", "orders/s", drained.rate)

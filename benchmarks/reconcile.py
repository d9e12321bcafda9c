"""audit: how long it takes to reconcile many orders, and in how much memory. See `benchmarks/audit.py`."""

import json

from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL
from benchmarks.load.run import run_program

NAME = "audit"


async def measure_round(bench: Bench, _round_number: int) -> None:
    """Once, in a process of its own: its memory is measured there."""
    bench.say(f"{NAME}: {bench.scale.audited:,} orders")
    said = json.loads(await run_program("benchmarks.audit", str(bench.scale.audited)))
    add = bench.results.add
    add(NAME, ORDER_RAIL.name, f"to read {said['orders']:,} orders", "s", said["fill_seconds"])
    add(NAME, ORDER_RAIL.name, f"to judge {said['orders']:,} orders", "s", said["judge_seconds"])
    add(NAME, ORDER_RAIL.name, "memory for it", "MiB", said["grown_by_mebibytes"])

"""audit: how long it takes to reconcile many orders, and in how much memory. See `benchmarks/audit.py`."""

import json

from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL
from benchmarks.load.run import run_program

NAME = "audit"


async def measure_round(bench: Bench, _round_number: int) -> None:
    """Once, in a process of its own: its memory is measured there."""
    bench.say(f"{NAME}: {bench.scale.audited:,} orders")
    result = json.loads(await run_program("benchmarks.audit", str(bench.scale.audited)))
    add = bench.add
    add(NAME, ORDER_RAIL.name, f"to read {result['orders']:,} orders", "s", result["fill_seconds"])
    add(NAME, ORDER_RAIL.name, f"to judge {result['orders']:,} orders", "s", result["judge_seconds"])
    add(NAME, ORDER_RAIL.name, "memory for it", "MiB", result["grown_by_mebibytes"])

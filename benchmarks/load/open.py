"""An open model: customers come when they come, whether or not those before them have been answered.

`python -m benchmarks.load.open URL --rate 50 --seconds 15` prints one JSON object: when each order was due, by its
id, and the latencies of the answers (p50 and so on).
"""

import asyncio
import json
import random
import time
from contextlib import suppress
from itertools import takewhile
from typing import Annotated

import typer
import uvloop

from benchmarks.load.order import ORDER
from control_room.experiments.load import post
from control_room.experiments.traffic import Customers, Unexpected, at_their_times, poisson

SEED = 1


async def run_load(url: str, rate: float, seconds: float) -> dict[str, object]:
    """Run it, and say what came of it."""
    due_at: dict[str, float] = {}
    epoch = time.time() - time.monotonic()
    times = takewhile(lambda at: at < seconds, poisson(rate, random.Random(SEED)))
    began, processor_began = time.perf_counter(), time.process_time()
    with Customers(url) as customers:
        request = post(f"{url}/orders", ORDER, {})

        async def place(_index: int, due: float) -> None:
            with suppress(Unexpected):  # counted as refused
                due_at[(await customers.place(request, due)).order_id] = epoch + due

        await at_their_times(times, place)
        answered_seconds = customers.report().latency_seconds
    share = (time.process_time() - processor_began) / (time.perf_counter() - began)
    refused = sum(customers.tally.refused.values())
    return {"due_at": due_at, "refused": refused, "processor_share": share, "answered_seconds": answered_seconds}


def main(
    url: Annotated[str, typer.Argument(help="Where the contender answers, without the path.")],
    rate: Annotated[float, typer.Option(help="Orders a second.")] = 50.0,
    seconds: float = 15.0,
) -> None:
    """Place orders at a steady rate, and print when each was due."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run_load(url, rate, seconds))))


if __name__ == "__main__":
    typer.run(main)

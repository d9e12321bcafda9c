"""`python -m control_room.experiments.flash_sale.customers URL ORDERS SECONDS FILE`: many customers, as a process.

It is a process of its own so that no other work delays an order that is due, and so that its cost is known. It prints
a `LoadReport` a few times a second, one JSON object a line; the last one is the result, after a SIGTERM too. The ids of
accepted orders go to FILE, one a line; to none if that is empty.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from control_room.background import running
from control_room.experiments.traffic import NOT_ACCEPTED, Customers, LoadReport, at_their_times, random_order
from shared.tuning import new_event_loop

SEED = 11
REPORT_SECONDS = 0.2
CONNECTIONS = 256
ANSWER_TIMEOUT_SECONDS = 30.0
DIFFERENT_ORDERS = 1000


async def place_orders(customers: Customers, orders: int, seconds: float, accepted_ids: TextIO) -> None:
    """Place so many orders at random times within `seconds`; returns once each has its answer, or none will come."""
    dice = random.Random(SEED)
    times = sorted(dice.uniform(0, seconds) for _ in range(orders))
    requests = [
        customers.request(random_order(dice, f"customer-{number}@example.com"))
        for number in range(min(orders, DIFFERENT_ORDERS))
    ]

    async def order(index: int, due: float) -> None:
        with contextlib.suppress(*NOT_ACCEPTED):
            placed = await customers.place(requests[index % DIFFERENT_ORDERS], due)
            accepted_ids.write(f"{placed.order_id}\n")

    with customers:
        await at_their_times(times, order)


async def _keep_printing(customers: Customers) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        _print(customers.report(with_latencies=False))


def _print(report: LoadReport) -> None:
    print(json.dumps(asdict(report)), flush=True)


async def _run(url: str, orders: int, seconds: float, accepted_ids: TextIO) -> None:
    customers = Customers(url, connections=CONNECTIONS, answer_timeout_seconds=ANSWER_TIMEOUT_SECONDS)
    placing = asyncio.create_task(place_orders(customers, orders, seconds, accepted_ids))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, placing.cancel)
    async with running(_keep_printing(customers), "reports"):
        with contextlib.suppress(asyncio.CancelledError):  # after a SIGTERM: the orders placed until then count
            await placing
    _print(customers.report())


def main(url: str, orders: str, seconds: str, accepted_ids: str) -> None:
    with Path(accepted_ids or os.devnull).open("w") as file, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(url, int(orders), float(seconds), file))


if __name__ == "__main__":
    main(*sys.argv[1:])

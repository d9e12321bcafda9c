"""`python -m control_room.experiments.flash_sale.customers URL ORDERS SECONDS FILE`: many customers, as a process.

It is a process of its own so that no other work delays an order that is due, and so that its cost is known. It prints
its progress a few times a second, one JSON object a line; the last line is the result. The ids of accepted orders go to
FILE, one a line; to none if that is empty.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from control_room.experiments.traffic import NOT_ACCEPTED, Customers, at_their_times, random_order
from control_room.text import percentiles
from shared.tuning import new_event_loop

SEED = 11
PROGRESS_SECONDS = 0.2
CONNECTIONS = 256
ANSWER_TIMEOUT_SECONDS = 30.0
DIFFERENT_ORDERS = 1000
PERCENTS = (50, 99, 99.9)


class Load:
    """Customers who come at random times within `seconds`, each with one order."""

    def __init__(self, url: str, orders: int, seconds: float, accepted_ids: TextIO) -> None:
        dice = random.Random(SEED)
        self._customers = Customers(url, connections=CONNECTIONS, answer_timeout_seconds=ANSWER_TIMEOUT_SECONDS)
        self._times = sorted(dice.uniform(0, seconds) for _ in range(orders))
        self._requests = [
            self._customers.request(random_order(dice, f"customer-{number}@example.com"))
            for number in range(min(orders, DIFFERENT_ORDERS))
        ]
        self._accepted_ids = accepted_ids
        self._began_at, self._processor_began = time.monotonic(), time.process_time()

    async def run(self) -> None:
        """Place every order; returns once each has its answer, or none will come any more."""
        self._began_at, self._processor_began = time.monotonic(), time.process_time()
        printing = asyncio.create_task(self._keep_printing())
        try:
            with self._customers:
                await at_their_times(self._times, self._order)
        finally:
            printing.cancel()

    async def _order(self, index: int, due: float) -> None:
        with contextlib.suppress(*NOT_ACCEPTED):
            placed = await self._customers.place(self._requests[index % DIFFERENT_ORDERS], due)
            self._accepted_ids.write(f"{placed.order_id}\n")

    async def _keep_printing(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            _print(self.progress())

    def progress(self) -> dict[str, Any]:
        """How far it is; the fields of `Progress`."""
        tally = self._customers.tally
        return {
            "seconds": time.monotonic() - self._began_at,
            "placed": tally.placed,
            "accepted": tally.accepted,
            "refused": tally.refused.total(),
            "unanswered": tally.unanswered,
        }

    def result(self) -> dict[str, Any]:
        """What came of it; the fields of `SaleResult`."""
        tally = self._customers.tally
        return self.progress() | {
            "refused": dict(tally.refused.most_common(20)),
            "latency_seconds": percentiles(tally.latencies_seconds, PERCENTS),
            "lateness_seconds": percentiles(tally.lateness_seconds, PERCENTS),
            "processor_seconds": time.process_time() - self._processor_began,
        }


def _print(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


async def _run(load: Load) -> None:
    selling = asyncio.create_task(load.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, selling.cancel)
    with contextlib.suppress(asyncio.CancelledError):  # SIGTERM: the result is about the orders placed until then
        await selling
    _print(load.progress())
    _print(load.result())


def main(url: str, orders: str, seconds: str, accepted_ids: str) -> None:
    with Path(accepted_ids or os.devnull).open("w") as file, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(Load(url, int(orders), float(seconds), file)))


if __name__ == "__main__":
    main(*sys.argv[1:])

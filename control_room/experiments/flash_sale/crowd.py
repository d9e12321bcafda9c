"""`python -m control_room.experiments.flash_sale.crowd URL ORDERS SECONDS`: many customers, as a process.

Of its own, so that nothing else of ours holds it up when an order is due, and what it costs can be told from what it
measures. It says how far it has come a few times a second, one JSON object a line; the last line is the result.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from control_room.experiments.load import Answer, AnswerLost, Connections, post
from control_room.experiments.traffic import at_their_times
from shared.event_loop import new_event_loop

SEED = 11
PROGRESS_SECONDS = 0.2
CONNECTIONS = 256
"""Customers beyond these wait their turn here, as behind a load balancer; their latency counts all the same."""

PATIENCE_SECONDS = 30.0
DISHES = ("margherita", "diavola", "quattro-formaggi", "lasagne", "tiramisu", "cola")
DIFFERENT_ORDERS = 1000
_LOCATION = re.compile(rb"/orders/([0-9a-f-]{36})")
PERCENTS = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


class Crowd:
    """Customers who come at random times within `seconds`, each with one order."""

    def __init__(self, url: str, orders: int, seconds: float, accepted_ids: TextIO) -> None:
        dice = random.Random(SEED)
        self._times = sorted(dice.uniform(0, seconds) for _ in range(orders))
        self._requests = [_request(url, dice, number) for number in range(min(orders, DIFFERENT_ORDERS))]
        self._connections = Connections(url, CONNECTIONS)
        self._accepted_ids = accepted_ids
        self._lateness = array("d")
        self._latencies = array("d")
        self._refused: Counter[str] = Counter()
        self._unanswered = 0
        self._began_at = time.monotonic()
        self._processor_began = time.process_time()

    async def order(self) -> None:
        """Place every order; returns once each has its answer, or none will come any more."""
        self._began_at, self._processor_began = time.monotonic(), time.process_time()
        telling = asyncio.create_task(self._keep_telling())
        try:
            await at_their_times(self._times, self._order)
        finally:
            telling.cancel()
            self._connections.close()

    async def _order(self, index: int, due: float) -> None:
        self._lateness.append(time.monotonic() - due)
        try:
            answer = await self._connections.ask(self._requests[index % DIFFERENT_ORDERS], PATIENCE_SECONDS)
        except AnswerLost:
            self._unanswered += 1
            return
        if answer.status != 202:
            self._refused[f"{answer.status} {answer.body[:200].decode(errors='replace')}"] += 1
            return
        self._latencies.append(time.monotonic() - due)
        self._accepted_ids.write(f"{_order_id(answer)}\n")

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            _tell(self.progress())

    def progress(self) -> dict[str, Any]:
        """How far it has come; the fields of `Progress`."""
        return {
            "seconds": time.monotonic() - self._began_at,
            "placed": len(self._lateness),
            "accepted": len(self._latencies),
            "refused": self._refused.total(),
            "unanswered": self._unanswered,
        }

    def result(self) -> dict[str, Any]:
        """What came of it; the fields of `SaleResult`."""
        return self.progress() | {
            "refused": dict(self._refused.most_common(20)),
            "latency_seconds": percentiles(self._latencies),
            "lateness_seconds": percentiles(self._lateness),
            "processor_seconds": time.process_time() - self._processor_began,
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The smallest value that is at least as large as so many percent of all; empty where there is none."""
    ascending = sorted(values)
    if not ascending:
        return {}
    ranks = {name: -(-len(ascending) * percent // 100) for name, percent in PERCENTS.items()}
    return {name: ascending[int(rank) - 1] for name, rank in ranks.items()}


def _request(url: str, dice: random.Random, number: int) -> bytes:
    order: dict[str, Any] = {
        "customer_email": f"customer-{number}@example.com",
        "items": [{"sku": sku, "quantity": dice.randint(1, 3)} for sku in dice.sample(DISHES, dice.randint(1, 3))],
    }
    if dice.random() < 0.5:
        order["customer_phone"] = f"+49151{dice.randrange(10**7, 10**8)}"
    return post(f"{url}/orders", json.dumps(order).encode(), {})


def _order_id(answer: Answer) -> str:
    """From the header `Location`, the cheapest place to find it in. Raises ValueError where it is not."""
    found = _LOCATION.search(answer.head)
    if found is None:
        raise ValueError("a 202 without Location: /orders/{order_id}")
    return found[1].decode()


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


async def _run(crowd: Crowd) -> None:
    ordering = asyncio.create_task(crowd.order())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ordering.cancel)
    with contextlib.suppress(asyncio.CancelledError):  # sent home: the result tells of those who came
        await ordering
    _tell(crowd.progress())
    _tell(crowd.result())


def main(url: str, orders: str, seconds: str, accepted_ids: str) -> None:
    """The ids of accepted orders go to the file `accepted_ids`, one a line; to none if it is empty."""
    with Path(accepted_ids or os.devnull).open("w") as file, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(Crowd(url, int(orders), float(seconds), file)))


if __name__ == "__main__":
    main(*sys.argv[1:])

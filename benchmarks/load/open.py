"""An open model: customers come when they come, whether or not those before them have been answered.

`python -m benchmarks.load.open URL --rate 50 --seconds 15` prints one JSON object: when each order was due, by its id.
"""

import asyncio
import json
import random
import time
from itertools import takewhile
from typing import Annotated

import typer
import uvloop

from benchmarks.load.order import ORDER
from control_room.experiments.load import Connections, post
from control_room.experiments.traffic import at_their_times, poisson

SEED = 1


class Customers:
    """Place orders, and note when each was due, in seconds since the epoch."""

    def __init__(self, url: str) -> None:
        self._connections = Connections(url)
        self._request = post(f"{url}/orders", ORDER, {})
        self._epoch = time.time() - time.monotonic()
        self.due_at: dict[str, float] = {}
        self.refused = 0

    async def order(self, _index: int, due: float) -> None:
        """One customer. Raises AnswerLost."""
        answer = await self._connections.ask(self._request)
        if answer.status == 202:
            self.due_at[json.loads(answer.body)["order_id"]] = self._epoch + due
        else:
            self.refused += 1

    def leave(self) -> None:
        self._connections.close()


async def run_load(url: str, rate: float, seconds: float) -> dict[str, object]:
    """Run it, and say what came of it."""
    customers = Customers(url)
    times = takewhile(lambda at: at < seconds, poisson(rate, random.Random(SEED)))
    began, processor_began = time.perf_counter(), time.process_time()
    await at_their_times(times, customers.order)
    customers.leave()
    share = (time.process_time() - processor_began) / (time.perf_counter() - began)
    return {"due_at": customers.due_at, "refused": customers.refused, "processor_share": share}


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

"""A closed model: so many connections, and each places its next order as soon as the last one is answered.

`python -m benchmarks.load.closed URL` prints one JSON object. It works with callbacks alone, since each task that wakes
up would take processor time from the services that it is to keep busy.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from math import inf
from typing import Annotated

import typer
import uvloop

from benchmarks.load.order import ORDER
from control_room.experiments.load import Answer, Connection, address_of, post
from control_room.text import percentile


@dataclass(slots=True)
class Tally:
    """What was answered within the measured time."""

    began_at: float = inf
    """On the clock of `time.perf_counter`; answers to what was asked earlier do not count."""
    accepted: int = 0
    """All that were answered with 202, those of the warm-up too."""
    answered: int = 0
    refused: int = 0
    first_refusal: str = ""
    latencies_seconds: list[float] = field(default_factory=list)


class Run:
    """One run: the request, when to stop, and what was seen. `orders` of 0 stands for no limit."""

    def __init__(self, url: str, orders: int) -> None:
        self.request = post(f"{url}/orders", ORDER, {})
        self.tally = Tally()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = orders or -1

    def take_one(self) -> bool:
        """Whether one more order is to be placed."""
        if self.over.done() or self._left == 0:
            return False
        self._left -= 1
        return True

    def count(self, asked_at: float, answer: Answer) -> None:
        """Count an answer to an order that was placed then."""
        now, tally = time.perf_counter(), self.tally
        if answer.status == 202:
            tally.accepted += 1
        else:
            tally.refused += 1
            tally.first_refusal = tally.first_refusal or str(answer)
        if asked_at >= tally.began_at:
            tally.answered += 1
            tally.latencies_seconds.append(now - asked_at)

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class Customer:
    """One connection that places the next order as soon as the last one is answered."""

    def __init__(self, run: Run, connection: Connection) -> None:
        self._run, self._connection = run, connection
        self._asked_at = 0.0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self) -> None:
        """Place an order, or leave if no more is to be placed."""
        if self._run.take_one():
            self._asked_at = time.perf_counter()
            self._connection.send(self._run.request, self._on_outcome)
        else:
            self._connection.close()
            self.gone.set_result(None)

    def _on_outcome(self, outcome: Answer | Exception) -> None:
        if isinstance(outcome, Answer):
            self._run.count(self._asked_at, outcome)
            self.ask()
        else:  # the server closed the connection, or its answer was malformed
            self._connection.close()
            self.gone.set_result(None)


async def run_load(
    url: str, connections: int, warm_up_seconds: float, seconds: float, orders: int
) -> dict[str, object]:
    """Run it, and say what came of it. With `orders` it ends after so many, else after `seconds`."""
    run = Run(url, orders)
    customers = [await _started(url, run) for _ in range(connections)]
    all_gone = asyncio.gather(*(customer.gone for customer in customers))
    await asyncio.sleep(warm_up_seconds)
    run.tally.began_at, processor_began = time.perf_counter(), time.process_time()
    await asyncio.wait([all_gone], timeout=None if orders else seconds)
    took, processor = time.perf_counter() - run.tally.began_at, time.process_time() - processor_began
    answered = run.tally.answered
    run.end()
    await all_gone
    latencies = sorted(run.tally.latencies_seconds[:answered])
    return {
        "accepted": run.tally.accepted,
        "answered": answered,
        "refused": run.tally.refused,
        "first_refusal": run.tally.first_refusal,
        "seconds": took,
        "rate": answered / took,
        "p50_seconds": percentile(latencies, 50),
        "p99_seconds": percentile(latencies, 99),
        "processor_share": processor / took,
    }


async def _started(url: str, run: Run) -> Customer:
    customer = Customer(run, await Connection.to(*address_of(url)))
    customer.ask()
    return customer


def main(
    url: Annotated[str, typer.Argument(help="Where the contender answers, without the path.")],
    connections: int = 64,
    warm_up_seconds: float = 0.0,
    seconds: float = 10.0,
    orders: Annotated[int, typer.Option(help="End after so many, however long that takes.")] = 0,
) -> None:
    """Place orders over and over, and print what came of it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run_load(url, connections, warm_up_seconds, seconds, orders))))


if __name__ == "__main__":
    typer.run(main)

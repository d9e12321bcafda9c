"""A closed model: so many connections, and each places its next order as soon as the last one is answered.

`python -m benchmarks.load.closed URL` prints one JSON object. Raw asyncio protocols, since a general HTTP client would
cost more processor time than the services that it is to keep busy.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, cast
from urllib.parse import urlsplit

import typer
import uvloop

from benchmarks.load.order import ORDER
from control_room.experiments.load import post
from control_room.text import percentile

ACCEPTED = b"HTTP/1.1 202"
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


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

    def count(self, asked_at: float, answer: bytes) -> None:
        """Count an answer to what was asked then."""
        now, tally = time.perf_counter(), self.tally
        if answer.startswith(ACCEPTED):
            tally.accepted += 1
        else:
            tally.refused += 1
            tally.first_refusal = tally.first_refusal or answer[:300].decode(errors="replace")
        if asked_at >= tally.began_at:
            tally.answered += 1
            tally.latencies_seconds.append(now - asked_at)

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class Customer(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._received = b""
        self._asked_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind, which does not inherit
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if _is_whole(self._received):
            self._run.count(self._asked_at, self._received)
            self._received = b""
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def _ask(self) -> None:
        if self._transport is None:
            return
        if not self._run.take_one():
            self._transport.close()
            return
        self._asked_at = time.perf_counter()
        self._transport.write(self._run.request)


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(END_OF_HEAD)
    if not found:
        return False
    length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


async def run_load(
    url: str, connections: int, warm_up_seconds: float, seconds: float, orders: int
) -> dict[str, object]:
    """Run it, and say what came of it. With `orders` it ends after so many, else after `seconds`."""
    run = Run(url, orders)
    customers = [await _connected(url, run) for _ in range(connections)]
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


async def _connected(url: str, run: Run) -> Customer:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, customer = await loop.create_connection(lambda: Customer(run), parts.hostname or "", parts.port or 80)
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

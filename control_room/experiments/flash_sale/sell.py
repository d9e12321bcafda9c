"""A flash sale on a running system: customers who order, in a process of their own."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from control_room.launcher.children import death_pact, kill

LONGEST_LINE_BYTES = 1024 * 1024


class SaleFailed(Exception):
    """The customers' process ended without a result; the message is the last line of its errors."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sale is, `seconds` after its beginning. `unanswered`: no answer came, so there may be an order."""

    seconds: float
    placed: int
    accepted: int
    refused: int
    unanswered: int


@dataclass(frozen=True, slots=True)
class SaleResult:
    """What customers saw. `refused`: how many got another answer than 202, by what it message.

    `latency_seconds`: from the moment an order was due to its 202, as p50, p99, p99.9 and max. `lateness_seconds`: how
    late they were sent, which is part of it. `processor_seconds`: what the customers' process took meanwhile.
    """

    seconds: float
    placed: int
    accepted: int
    refused: Mapping[str, int]
    unanswered: int
    latency_seconds: Mapping[str, float]
    lateness_seconds: Mapping[str, float]
    processor_seconds: float


async def sell(
    url: str,
    orders: int,
    seconds: float,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    accepted_ids: Path | None = None,
) -> SaleResult:
    """Place `orders` orders at random times within `seconds`, whether or not those before have been answered.

    Returns once every order has its answer. `on_progress` is called a few times a second; the ids of the orders that
    were accepted go to the file `accepted_ids`, one a line. Raises SaleFailed. Cancelled, it places no further order.
    """
    return await Sale(url, orders, seconds, accepted_ids).run(on_progress)


class Sale:
    """One sale. `result` is there also if it was cancelled: about the orders placed until then."""

    def __init__(self, url: str, orders: int, seconds: float, accepted_ids: Path | None = None) -> None:
        self.result: SaleResult | None = None
        self._arguments = (url.rstrip("/"), str(orders), str(seconds), str(accepted_ids or ""))

    async def run(self, on_progress: Callable[[Progress], None]) -> SaleResult:
        """As `sell`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control_room.experiments.flash_sale.customers", *self._arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=LONGEST_LINE_BYTES, start_new_session=True,
            preexec_fn=death_pact(),
        )  # fmt: skip
        try:
            await self._read(process, on_progress)
        except asyncio.CancelledError:
            process.terminate()
            await self._read(process, on_progress)
            raise
        finally:
            await kill(process)
        if self.result is None:
            errors = await process.stderr.read() if process.stderr is not None else b""
            raise SaleFailed(errors.decode(errors="replace").strip().rpartition("\n")[2] or "it was ended from outside")
        return self.result

    async def _read(self, process: Process, on_progress: Callable[[Progress], None]) -> None:
        while process.stdout is not None and (line := await process.stdout.readline()):
            message = json.loads(line)
            if "latency_seconds" in message:
                self.result = SaleResult(**message)
            else:
                on_progress(Progress(**message))

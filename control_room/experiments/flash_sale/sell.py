"""A flash sale on a running system: customers who order, in a process of their own."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from control_room.experiments.traffic import LoadReport
from control_room.launcher.children import death_pact, kill

LONGEST_LINE_BYTES = 1024 * 1024


class SaleFailed(Exception):
    """The customers' process ended without a result; the message is the last line of its errors."""


async def sell(
    url: str,
    orders: int,
    seconds: float,
    on_report: Callable[[LoadReport], None] = lambda _: None,
    *,
    accepted_ids: Path | None = None,
) -> LoadReport:
    """Place `orders` orders at random times within `seconds`, whether or not those before have been answered.

    Returns once every order has its answer. `on_report` gets a report a few times a second, without latencies but for
    the last one; the ids of the orders that were accepted go to the file `accepted_ids`, one a line. Raises SaleFailed.
    Cancelled, it places no further order, and `on_report` still gets the last report.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control_room.experiments.flash_sale.customers",
        url.rstrip("/"), str(orders), str(seconds), str(accepted_ids or ""),
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=LONGEST_LINE_BYTES, start_new_session=True,
        preexec_fn=death_pact(),
    )  # fmt: skip
    report: LoadReport | None = None
    try:
        async for report in _reports(process.stdout):
            on_report(report)
        status = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        async for report in _reports(process.stdout):
            on_report(report)
        raise
    finally:
        await kill(process)
    if report is None or status != 0:
        errors = await process.stderr.read() if process.stderr is not None else b""
        raise SaleFailed(errors.decode(errors="replace").strip().rpartition("\n")[2] or "it was ended from outside")
    return report


async def _reports(output: asyncio.StreamReader | None) -> AsyncIterator[LoadReport]:
    """What the process prints, until it ends."""
    while output is not None and (line := await output.readline()):
        yield LoadReport(**json.loads(line))

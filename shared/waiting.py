"""Polling with a deadline: the one loop for whatever can only be asked about again and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


async def poll(
    probe: Callable[[], Awaitable[Result]],
    *,
    within_seconds: float,
    every_seconds: float,
    until: Callable[[Result], object] = bool,
    not_yet: tuple[type[Exception], ...] = (),
) -> Result:
    """Call `probe` until its result satisfies `until`, and return that result; after `within_seconds` the last one.

    So a caller for which lateness is an error looks at the result. `within_seconds=math.inf` has no deadline.
    An exception of the types `not_yet` means "ask again"; after the deadline it is raised.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            result = await probe()
            if until(result) or time.monotonic() >= deadline:
                return result
        except not_yet:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(every_seconds)

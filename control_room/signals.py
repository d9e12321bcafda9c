"""Stop signals such as Ctrl-C, for commands that run processes: stop once, in order."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_signal(main: Coroutine[Any, Any, None]) -> bool:
    """Run `main` in a new event loop. The first stop signal cancels it, so that it unwinds; more change nothing.

    Returns whether a signal ended it. What `main` raises is raised.
    """
    return asyncio.run(_run(main))


async def _run(main: Coroutine[Any, Any, None]) -> bool:
    task = asyncio.ensure_future(main)
    interrupted = asyncio.Event()

    def interrupt() -> None:
        if not interrupted.is_set():
            interrupted.set()
            task.cancel()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        if not interrupted.is_set():
            raise
    return interrupted.is_set()

"""How often the dashboard reads the system: often while a page is open, seldom while none is."""

import asyncio
import time
from contextlib import suppress

WATCHED_SECONDS = 1.0
UNWATCHED_SECONDS = 10.0
"""From the start of a look to the start of the next one."""
SHORTEST_PAUSE_SECONDS = 0.1


class Pace:
    """Knows the open pages by their ids. The first page that opens cuts every long pause short."""

    def __init__(self) -> None:
        self._pages: set[str] = set()
        self._opened = asyncio.Event()
        self.opened_at = 0.0
        """Since when pages have been open, in seconds since 1970; 0 if none is."""

    def open(self, page: str) -> None:
        """This page has been opened."""
        if not self._pages:
            self.opened_at = time.time()
        self._pages.add(page)
        self._opened.set()

    def close(self, page: str) -> None:
        """This page is gone. It need not have been opened."""
        self._pages.discard(page)
        if not self._pages:
            self.opened_at = 0.0
            self._opened.clear()

    async def next_look(self, began: float) -> None:
        """Wait until the next look is due; the last one began at `began` by the monotonic clock."""
        spent = time.monotonic() - began
        await self.pause(max(SHORTEST_PAUSE_SECONDS, WATCHED_SECONDS - spent), UNWATCHED_SECONDS - spent)

    async def pause(self, watched_seconds: float, unwatched_seconds: float) -> None:
        """Wait for the first duration while a page is open, else for the second or until a page is opened."""
        await asyncio.sleep(watched_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(unwatched_seconds - watched_seconds):
                await self._opened.wait()

"""How often the control room looks at the system: often while somebody has its page open, seldom while nobody has."""

import asyncio
import time
from contextlib import suppress

WATCHED_SECONDS = 1.0
UNWATCHED_SECONDS = 10.0
"""From the beginning of a look to the beginning of the next one. The history has a point for each."""
SHORTEST_PAUSE_SECONDS = 0.1


class Pace:
    """Knows the pages that are open, by an id of each. The first one that opens ends every pause that is too long."""

    def __init__(self) -> None:
        self._pages: set[str] = set()
        self._opened = asyncio.Event()
        self._opened_at = 0.0

    @property
    def opened_at(self) -> float:
        """When the first of the pages that are open now was opened, in seconds since 1970; 0 if none is."""
        return self._opened_at

    def open(self, page: str) -> None:
        """Somebody has opened this page."""
        if not self._pages:
            self._opened_at = time.time()
        self._pages.add(page)
        self._opened.set()

    def close(self, page: str) -> None:
        """This page is gone; it is no error if it was never opened."""
        self._pages.discard(page)
        if not self._pages:
            self._opened_at = 0.0
            self._opened.clear()

    async def next_look(self, began: float) -> None:
        """Wait until it is time for the look that follows one that began at `began`, by the monotonic clock."""
        spent = time.monotonic() - began
        await self.pause(max(SHORTEST_PAUSE_SECONDS, WATCHED_SECONDS - spent), UNWATCHED_SECONDS - spent)

    async def pause(self, watched_seconds: float, unwatched_seconds: float) -> None:
        """Wait so long; a page that is opened makes it the shorter one of the two."""
        await asyncio.sleep(watched_seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(unwatched_seconds - watched_seconds):
                await self._opened.wait()

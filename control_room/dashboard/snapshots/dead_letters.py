"""The dead letters, listed once for all viewers, and redriven or discarded on their request."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from control_room.dashboard.pace import Pace
from control_room.operations.addresses import SystemAddresses
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.discard import discard
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Group, Selection, groups, selected
from shared.messaging.channel import BrokerUnavailable

SHOWN_EACH = 20
LOOK_SECONDS, UNWATCHED_LOOK_SECONDS = 1.0, 60.0
SHARE_OF_TIME = 0.1
"""Listing holds the messages while it lasts, so for nine tenths of the time nothing is listed."""


class DeadLetterView:
    """`groups` are the dead letters by queue and cause, as last listed; `trouble` says why listing failed."""

    def __init__(self, addresses: SystemAddresses, journal: Path, count: Callable[[], int], pace: Pace) -> None:
        self.groups: Sequence[Group] = ()
        self.trouble = ""
        self._url, self._journal, self._count = addresses.rabbitmq_url, journal, count
        self._pace = pace
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """List them whenever their number has changed, until cancelled."""
        while True:
            await self._pace.pause(LOOK_SECONDS, UNWATCHED_LOOK_SECONDS)
            if self._count() == sum(group.count for group in self.groups):
                continue
            began = time.monotonic()
            await self.look()
            await asyncio.sleep((time.monotonic() - began) / SHARE_OF_TIME)

    async def look(self) -> None:
        """List them now."""
        async with self._lock:
            try:
                async with connected(self._url) as connection:
                    self.groups = await groups(connection, Selection(), SHOWN_EACH)
                self.trouble = ""
            except BrokerUnavailable as error:
                self.trouble = str(error)

    async def about(self, order_id: str) -> list[DeadLetter]:
        """The dead letters of one order. Raises BrokerUnavailable."""
        if not self._count():
            return []
        async with self._lock, connected(self._url) as connection:
            found = selected(connection, Selection())
            return [held.dead_letter async for held in found if held.dead_letter.order_id == order_id]

    async def redrive(self, selection: Selection, rate: float) -> int:
        """Send the selected ones back, at most `rate` per second; returns how many. Raises what `redrive` raises."""
        async with self._lock, connected(self._url) as connection:
            sent = await redrive(self._url, connection, selection, rate)
        await self.look()
        return sent

    async def discard(self, selection: Selection, because: str) -> int:
        """Move the selected ones to the journal; returns how many. Raises what `discard` raises."""
        async with self._lock, connected(self._url) as connection:
            removed = await discard(connection, selection, because, self._journal)
        await self.look()
        return len(removed)

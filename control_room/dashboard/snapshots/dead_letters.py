"""The dead letters, listed once for all viewers, and redriven or discarded on their request."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from control_room.dashboard.pace import Pace
from control_room.operations.addresses import SystemAddresses
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.discard import discard, discarded
from control_room.operations.dead_letters.moot import statuses_of, why_moot
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Group, Selection, groups, selected
from shared.messaging.channel import BrokerUnavailable

SHOWN_EACH = 20
MOOT_SECONDS = 30.0
"""How often it is asked again which are moot; there are none as long as all is well."""
LOOK_SECONDS, UNWATCHED_LOOK_SECONDS = 1.0, 60.0
SHARE_OF_TIME = 0.1
"""Listing holds the messages while it lasts, so for nine tenths of the time nothing is listed."""

logger = structlog.get_logger(__name__)


class DeadLetterView:
    """`groups` are the dead letters by queue and cause, as last listed; `trouble` says why listing failed.

    `statuses` of their subjects, as last asked for, say which are moot.
    """

    def __init__(self, addresses: SystemAddresses, journal: Path, count: Callable[[], int], pace: Pace) -> None:
        self.groups: Sequence[Group] = ()
        self.trouble = ""
        self.statuses: Mapping[str, str] = {}
        self._addresses = addresses
        self._asked_at = 0.0
        self._url, self._journal, self._count = addresses.rabbitmq_url, journal, count
        self._pace = pace
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """List them whenever their number has changed, until cancelled."""
        while True:
            await self._pace.pause(LOOK_SECONDS, UNWATCHED_LOOK_SECONDS)
            if self._count() == sum(group.count for group in self.groups):
                if time.monotonic() - self._asked_at > MOOT_SECONDS:
                    await self._look_for_moot()
                continue
            began = time.monotonic()
            await self._list()
            spent = time.monotonic() - began
            await self._look_for_moot()
            await asyncio.sleep(spent / SHARE_OF_TIME)

    async def look(self) -> None:
        """List them now, and ask which are moot."""
        await self._list()
        await self._look_for_moot()

    async def _list(self) -> None:
        async with self._lock:
            try:
                async with connected(self._url) as connection:
                    self.groups = await groups(connection, Selection(), SHOWN_EACH)
                self.trouble = ""
            except BrokerUnavailable as error:
                self.trouble = str(error)

    def why_moot(self, dead_letter: DeadLetter) -> str:
        """A few words if a redrive would change nothing; else nothing."""
        return why_moot(dead_letter, self.statuses)

    @property
    def moot(self) -> int:
        """How many of those that are listed one by one are moot."""
        return sum(bool(self.why_moot(each)) for group in self.groups for each in group.first)

    async def _look_for_moot(self) -> None:
        """Ask for the statuses of those that may become moot, which may happen at any time."""
        self._asked_at = time.monotonic()
        first = [dead_letter for group in self.groups for dead_letter in group.first]
        order_ids = {each.order_id for each in first}
        known = {order_id: status for order_id, status in self.statuses.items() if order_id in order_ids}
        asked = [dead_letter for dead_letter in first if not self.why_moot(dead_letter)]
        self.statuses = {**known, **(await statuses_of(self._addresses, asked) if asked else {})}

    async def about(self, order_id: str) -> list[DeadLetter]:
        """The dead letters of one subject. Raises BrokerUnavailable."""
        if not self._count():
            return []
        async with self._lock, connected(self._url) as connection:
            found = selected(connection, Selection())
            return [held.dead_letter async for held in found if held.dead_letter.order_id == order_id]

    def discarded(self, order_id: str) -> list[dict[str, Any]]:
        """The journal's lines about a subject; none if the journal can't be read."""
        try:
            return discarded(self._journal, order_id)
        except (OSError, ValueError) as error:
            logger.warning("journal.unreadable", journal=str(self._journal), error=str(error))
            return []

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

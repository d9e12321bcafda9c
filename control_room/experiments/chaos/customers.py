"""Customers of a chaos run: they order at a steady rate, each with a key of their own, and repeat without an answer.

Every order that was answered with 202 is in the journal on disk before it counts as accepted.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from itertools import takewhile
from pathlib import Path

from control_room.experiments.traffic import NOT_ACCEPTED, Customers, at_their_times, poisson, random_order

SPECIAL_TOKENS = ("tok_declined", "tok_flaky", "tok_timeout", "tok_broken")
SHARE_OF_EACH = 0.02
REPEAT_SECONDS = 120.0


class Journal:
    """A file with the id of each accepted order, one a line, as the audit reads it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    async def record(self, order_id: str) -> None:
        """Returns once the line is on disk. Raises OSError where it can't be."""
        await asyncio.to_thread(self._append, f"{order_id}\n".encode())

    def close(self) -> None:
        self._file.close()

    def _append(self, line: bytes) -> None:
        self._file.write(line)
        os.fsync(self._file)


class SteadyCustomers(Customers):
    """They order until `is_stopped` is set.

    `on_accepted` is called with the id of each order that is in the journal, and when that was (`monotonic`).
    """

    def __init__(
        self, url: str, rate: float, seed: int, journal: Path, on_accepted: Callable[[str, float], None]
    ) -> None:
        super().__init__(url, repeat_seconds=REPEAT_SECONDS)
        self.is_stopped = False
        self._rate, self._seed = rate, seed
        self._journal_path, self._on_accepted = journal, on_accepted
        self._dice = random.Random(seed)  # apart from that of the times, so that these do not change what is ordered

    async def order_until_stopped(self) -> None:
        """Returns once each order has its answer. Raises OSError where the journal can't be written."""
        with self, closing(Journal(self._journal_path)) as self._journal:
            times = poisson(self._rate, random.Random(self._seed))
            await at_their_times(takewhile(lambda _: not self.is_stopped, times), self._order)

    async def _order(self, index: int, due: float) -> None:
        key = f"chaos-{self._seed}-{index}"
        request = self.request(random_order(self._dice, f"{key}@example.com", self._token()), key)
        try:
            placed = await self.place(request, due)
        except NOT_ACCEPTED:
            return  # the tally has counted it
        await self._journal.record(placed.order_id)
        self._on_accepted(placed.order_id, time.monotonic())

    def _token(self) -> str:
        share = self._dice.random() / SHARE_OF_EACH
        return SPECIAL_TOKENS[int(share)] if share < len(SPECIAL_TOKENS) else "tok_visa"

"""Customers of a chaos run: they order at a steady rate, each with a key of their own, and repeat without an answer.

Some of them cancel their order again, at a random moment. Every order and every cancellation that was answered with 202
is in a journal on disk before it counts.
"""

import asyncio
import json
import os
import random
import secrets
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from control_room.experiments.chaos.watch import OpenOrders
from control_room.experiments.load import Answer, AnswerLost, post
from control_room.experiments.traffic import NOT_ACCEPTED, Customers, at_their_times, poisson, random_order
from control_room.operations.roles import TAKEN_BACK

JOURNAL, CANCELLATIONS = "journal", "cancellations"
"""The journals' files."""

SPECIAL_TOKENS = ("tok_declined", "tok_flaky", "tok_timeout", "tok_broken")
SHARE_OF_EACH = 0.02
REPEAT_SECONDS = 120.0
LATEST_REGRET_SECONDS = 15.0


@dataclass
class Cancellations:
    """What customers saw who cancelled. `too_late`: the orders whose cancellation was answered with 409.

    `refused`: how many were answered with something else than 202 or 409, by that answer. `unanswered`: no answer came,
    so the order may be cancelled or not.
    """

    requested: int = 0
    accepted: int = 0
    repeated: int = 0
    unanswered: int = 0
    too_late: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=Counter)


class Journal:
    """A file with the id of an order on each line, as the audit reads it."""

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
    """They order until `is_stopped` is set, and a share of them, `cancelling`, cancels.

    `orders` gets each order that is in the journal, and each cancellation that is in the journal of cancellations.
    """

    def __init__(
        self, url: str, rate: float, seed: int, directory: Path, orders: OpenOrders, *, cancelling: float = 0.0
    ) -> None:
        super().__init__(url, repeat_seconds=REPEAT_SECONDS)
        self.is_stopped = False
        self.cancellations = Cancellations()
        self._rate, self._seed, self._cancelling = rate, seed, cancelling
        self._directory, self._orders = directory, orders
        self._run = secrets.token_hex(4)  # a system that goes on may have seen the same seed before
        self._dice = random.Random(seed)  # apart from that of the times, so that these do not change what is ordered
        self._regrets = random.Random(f"{seed} regrets")

    async def order_until_stopped(self) -> None:
        """Returns once each order and cancellation has its answer. Raises OSError where a journal can't be written."""
        with (
            self,
            closing(Journal(self._directory / JOURNAL)) as self._accepted,
            closing(Journal(self._directory / CANCELLATIONS)) as self._called_off,
        ):
            times = poisson(self._rate, random.Random(self._seed))
            await at_their_times(takewhile(lambda _: not self.is_stopped, times), self._order)

    async def _order(self, index: int, due: float) -> None:
        key = f"chaos-{self._seed}-{self._run}-{index}"
        request = self.request(random_order(self._dice, f"{key}@example.com", self._token()), key)
        regret_seconds = self._regret_seconds()
        try:
            placed = await self.place(request, due)
        except NOT_ACCEPTED:
            return  # the tally has counted it
        await self._accepted.record(placed.order_id)
        self._orders.add(placed.order_id, time.monotonic())
        if regret_seconds is not None:
            await asyncio.sleep(regret_seconds)
            await self._cancel(placed.order_id)

    async def _cancel(self, order_id: str) -> None:
        """Cancel an order, and judge the answer."""
        self.cancellations.requested += 1
        try:
            answer = await self.answer_to(post(f"{self._url}/{order_id}/cancel", b"", {}), self.cancellations)
        except AnswerLost:
            return  # the tally has counted it
        if answer.status == 409:
            self.cancellations.too_late.append(order_id)
        elif not _is_cancellation(answer):
            self.cancellations.refused[str(answer)] += 1
        else:
            await self._called_off.record(order_id)
            self._orders.call_off(order_id)
            self.cancellations.accepted += 1

    def _regret_seconds(self) -> float | None:
        """How long after its 202 this order is cancelled: half of them before its email is out. None if it is not."""
        if self._regrets.random() >= self._cancelling:
            return None
        return LATEST_REGRET_SECONDS * self._regrets.random() ** 4

    def _token(self) -> str:
        share = self._dice.random() / SHARE_OF_EACH
        return SPECIAL_TOKENS[int(share)] if share < len(SPECIAL_TOKENS) else "tok_visa"


def _is_cancellation(answer: Answer) -> bool:
    return answer.status == 202 and json.loads(answer.body)["status"] in ("cancelling", *TAKEN_BACK)

"""Customers: they order at a steady rate, each with a key of their own, and ask again when no answer comes."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from control_room.experiments.chaos.journal import Journal
from control_room.experiments.load import Answer, AnswerLost, Connections, post
from control_room.experiments.traffic import at_their_times, poisson

SPECIAL_TOKENS = ("tok_declined", "tok_flaky", "tok_timeout", "tok_broken")
SHARE_OF_EACH = 0.02
PATIENCE_SECONDS = 120.0
ANSWER_TIMEOUT_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2.0
COME_BACK = {429, 500, 502, 503, 504}
DISHES = ("margherita", "diavola", "lasagne", "tiramisu", "cola")


@dataclass(slots=True)
class Tally:
    """What customers saw. `refused`: answers that they should never get, by what they said."""

    placed: int = 0
    accepted: int = 0
    asked_again: int = 0
    replayed: int = 0
    given_up: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    latencies_seconds: list[float] = field(default_factory=list)
    """From the moment the order was due to its 202, asking again included."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that was answered with 202; `at` is on the clock of `time.monotonic`."""

    order_id: str
    token: str
    at: float


class Customers:
    """`on_accepted` is called for each order that is in the journal."""

    def __init__(
        self, url: str, rate: float, seed: int, journal: Journal, on_accepted: Callable[[Accepted], None]
    ) -> None:
        self.tally = Tally()
        self._url, self._rate, self._seed = f"{url}/orders", rate, seed
        self._journal, self._on_accepted = journal, on_accepted
        self._dice = random.Random(seed)  # of its own for what is ordered, so that times don't change it
        self._connections = Connections(url)
        self._no_more = False

    async def order_until_stopped(self) -> None:
        """Place orders until `stop`, then wait until each has its answer."""
        await at_their_times(self._times(), self._order)
        self._connections.close()

    def stop(self) -> None:
        """No further customers come."""
        self._no_more = True

    def _times(self) -> Iterator[float]:
        for at in poisson(self._rate, random.Random(self._seed)):
            if self._no_more:
                return
            yield at

    async def _order(self, index: int, due: float) -> None:
        token, request = self._next(key := f"chaos-{self._seed}-{index}")
        self.tally.placed += 1
        answer = await self._ask_until_answered(request)
        if answer is None:
            self.tally.given_up += 1
        elif answer.status != 202:
            self.tally.refused[f"{answer.status} {answer.body[:200].decode(errors='replace')}"] += 1
        else:
            order_id = json.loads(answer.body)["order_id"]
            await self._journal.record(order_id, key)
            self._count(answer, due)
            self._on_accepted(Accepted(order_id, token, time.monotonic()))

    def _next(self, key: str) -> tuple[str, bytes]:
        """A token, and the request of an order that is paid with it."""
        share = self._dice.random() / SHARE_OF_EACH
        token = SPECIAL_TOKENS[int(share)] if share < len(SPECIAL_TOKENS) else "tok_visa"
        order = {
            "customer_email": f"{key}@example.com",
            "items": [{"sku": self._dice.choice(DISHES), "quantity": self._dice.randint(1, 5)}],
            "payment_token": token,
        }
        if self._dice.random() < 0.5:
            order["customer_phone"] = f"+49151{self._dice.randrange(10**7, 10**8)}"
        return token, post(self._url, json.dumps(order).encode(), {"Idempotency-Key": f'"{key}"'})

    async def _ask_until_answered(self, request: bytes) -> Answer | None:
        """The first answer that is one; None once patience has ended. Each time the same key: no second order."""
        give_up_at, pause = time.monotonic() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = await self._connections.ask(request, ANSWER_TIMEOUT_SECONDS)
                if answer.status not in COME_BACK:
                    return answer
            except AnswerLost:
                pass
            if time.monotonic() > give_up_at:
                return None
            self.tally.asked_again += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _count(self, answer: Answer, due: float) -> None:
        self.tally.accepted += 1
        self.tally.replayed += b"idempotent-replayed: true" in answer.head.lower()
        self.tally.latencies_seconds.append(time.monotonic() - due)

"""Customers of a running system: when they come, what they order, and what they are answered.

Traffic is an open model: an order leaves when it is due, whether or not those before it have been answered. Its latency
counts from that moment, so a service that stalls cannot hide it by slowing the traffic down.
"""

import asyncio
import json
import math
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from control_room.experiments.load import Answer, AnswerLost, Connections, post
from control_room.text import percentiles

TICK_SECONDS = 0.002
"""Orders that are due this close together leave together: fewer wake-ups, each of which costs a system call."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 2.0
TRANSIENT = {429, 500, 502, 503, 504}
DIFFERENT_ANSWERS = 20
"""A report names so many; most loads are refused with one or two."""
DISHES = ("margherita", "diavola", "quattro-formaggi", "lasagne", "tiramisu", "cola")


class Unexpected(Exception):
    """What happened instead of what was expected."""


NOT_ACCEPTED = (Unexpected, AnswerLost)
"""What `Customers.place` raises."""


def poisson(rate: float, dice: random.Random) -> Iterator[float]:
    """When independent customers come, in seconds from the start: `rate` a second, without end."""
    at = 0.0
    while True:
        at += dice.expovariate(rate)
        yield at


async def at_their_times(times: Iterable[float], start: Callable[[int, float], Coroutine[Any, Any, None]]) -> None:
    """Call `start(index, due)` for each time, not before it is due, nor a tick after unless the machine is busy.

    It does not wait for the calls before. `times` are in seconds from now, `due` is on the clock of `time.monotonic`.
    Returns once all have ended; cancelled, it cancels them. The first exception of a call ends all, and is raised.
    """
    began = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for index, at in enumerate(times):
                if (wait := began + at - time.monotonic()) > 0:
                    await asyncio.sleep(max(wait, TICK_SECONDS))
                group.create_task(start(index, began + at))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def new_order(token: str = "tok_visa", email: str = "customer@example.com") -> dict[str, Any]:  # noqa: S107 - no secret
    """The body of an order."""
    items = [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}]
    return {"customer_email": email, "items": items, "payment_token": token}


def random_order(dice: random.Random, email: str, token: str = "tok_visa") -> dict[str, Any]:  # noqa: S107 - no secret
    """An order of one to three dishes; every other customer wants a text message too."""
    dishes = dice.sample(DISHES, dice.randint(1, 3))
    order = {
        "customer_email": email,
        "items": [{"sku": sku, "quantity": dice.randint(1, 3)} for sku in dishes],
        "payment_token": token,
    }
    return order | ({"customer_phone": f"+49151{dice.randrange(10**7, 10**8)}"} if dice.random() < 0.5 else {})


@dataclass
class LoadReport:
    """What customers saw. `refused`: how many were answered with something other than 202, by that answer.

    `unanswered`: no answer came, so there may be an order. `latency_seconds`: from the moment an order was due to its
    202, repeated requests included, as p50 and so on. `lateness_seconds`: from that moment until it was sent.
    `processor_seconds`: what the customers' process took meanwhile.
    """

    seconds: float = 0.0
    placed: int = 0
    accepted: int = 0
    repeated: int = 0
    replayed: int = 0
    unanswered: int = 0
    refused: dict[str, int] = field(default_factory=Counter)
    latency_seconds: Mapping[str, float] = field(default_factory=dict)
    lateness_seconds: Mapping[str, float] = field(default_factory=dict)
    processor_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Placed:
    """An accepted order, and how long after it was due its customer had the answer."""

    order_id: str
    answered_seconds: float


class Repeats(Protocol):
    """Counts what became of requests: how many were repeated, and how many not answered at all."""

    repeated: int
    unanswered: int


class Customers:
    """Place orders over kept-alive connections; use it in a `with` block, which closes them.

    Customers beyond `connections` wait their turn, which counts as latency. With `repeat_seconds` they repeat a request
    that has no answer, or a transient error, for so long: give each order an idempotency key then.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 100,
        answer_timeout_seconds: float = 10.0,
        repeat_seconds: float = 0.0,
    ) -> None:
        self.tally = LoadReport()
        """What they saw so far, without times."""
        self._latencies_seconds, self._lateness_seconds = array("d"), array("d")
        self._url = f"{url}/orders"
        self._connections = Connections(url, connections)
        self._answer_timeout_seconds, self._repeat_seconds = answer_timeout_seconds, repeat_seconds

    def __enter__(self) -> Self:
        self._began_at, self._processor_began = time.monotonic(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()

    def request(self, order: Mapping[str, Any], idempotency_key: str = "") -> bytes:
        """An order as it is sent, for `place`."""
        headers = {"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else {}
        return post(self._url, json.dumps(order).encode(), headers)

    async def place(self, request: bytes, due: float | None = None) -> Placed:
        """Place an order that was due then, or now, and count its answer. Raises one of NOT_ACCEPTED."""
        began = time.monotonic()
        due = began if due is None else due
        self.tally.placed += 1
        self._lateness_seconds.append(began - due)
        answer = await self.answer_to(request, self.tally)
        if answer.status != 202:
            self.tally.refused[str(answer)] += 1
            raise Unexpected(f"an order was answered {answer}")
        placed = Placed(json.loads(answer.body)["order_id"], time.monotonic() - due)
        self.tally.accepted += 1
        self.tally.replayed += b"\r\nidempotent-replayed: true" in answer.head.lower()
        self._latencies_seconds.append(placed.answered_seconds)
        return placed

    def report(self, *, with_latencies: bool = True) -> LoadReport:
        """What they saw since the block began. Latencies are sorted for it: leave them out of what is asked often."""
        return replace(
            self.tally,
            seconds=time.monotonic() - self._began_at,
            refused=dict(Counter(self.tally.refused).most_common(DIFFERENT_ANSWERS)),
            processor_seconds=time.process_time() - self._processor_began,
            latency_seconds=percentiles(self._latencies_seconds if with_latencies else ()),
            lateness_seconds=percentiles(self._lateness_seconds if with_latencies else ()),
        )

    async def place_all(
        self, tokens: Sequence[str], per_second: float = math.inf, on_order: Callable[[int], None] = lambda _: None
    ) -> list[Placed]:
        """Place an order for each payment token, evenly in time; `on_order` is called with how many are accepted."""
        placed: list[Placed] = []

        async def start(index: int, _due: float) -> None:
            placed.append(await self.place(self.request(new_order(tokens[index]))))
            on_order(len(placed))

        await at_their_times((index / per_second for index in range(len(tokens))), start)
        return placed

    async def answer_to(self, request: bytes, tally: Repeats) -> Answer:
        """The answer, or once it is time to give up the last transient error. Raises AnswerLost."""
        give_up_at, pause = time.monotonic() + self._repeat_seconds, FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = await self._connections.ask(request, self._answer_timeout_seconds)
            except AnswerLost:
                if time.monotonic() >= give_up_at:
                    tally.unanswered += 1
                    raise
            else:
                if answer.status not in TRANSIENT or time.monotonic() >= give_up_at:
                    return answer
            tally.repeated += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

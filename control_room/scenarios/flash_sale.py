"""A flash sale: orders come in much faster than they can be paid."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping

from control_room.load import AnswerLost, Connections, at_their_times, post
from control_room.scenarios.scenario import Outcome, Say, Scenario, Setting, Stage

ANSWER_TIMEOUT_SECONDS = 10.0
SLOW_MILLISECONDS = 500.0
ORDER = {"customer_email": "sale@example.com", "items": [{"sku": "margherita", "quantity": 1}]}


async def play(stage: Stage, chosen: Mapping[str, int], say: Say) -> Outcome:
    """Orders at a steady rate, whether or not those before are answered."""
    count, seconds = chosen["orders"], chosen["seconds"]
    sale = _Sale(stage.addresses.services["order_service"], count, say)
    await at_their_times((index * seconds / count for index in range(count)), sale.order)
    sale.close()
    accepted = sale.statuses["202"]
    others = "".join(f", {number:,} {status}" for status, number in sale.statuses.items() if status != "202")
    half, most = sale.milliseconds(0.5), sale.milliseconds(0.99)
    return Outcome(
        expected=f"All {count:,} orders are accepted, 99 of 100 within {SLOW_MILLISECONDS:.0f} ms, "
        "however long payment takes.",
        seen=f"{accepted:,} accepted{others}; half within {half:.0f} ms, 99 of 100 within {most:.0f} ms. "
        "What waits now is worked off: watch the backlog.",
        held=accepted == count and most <= SLOW_MILLISECONDS,
    )


class _Sale:
    def __init__(self, url: str, count: int, say: Say) -> None:
        self.statuses: Counter[str] = Counter()
        self._connections = Connections(url)
        self._url, self._count, self._say = f"{url}/orders", count, say
        self._body = json.dumps(ORDER).encode()
        self._name = uuid.uuid4().hex[:12]
        self._milliseconds: list[float] = []

    async def order(self, index: int, due: float) -> None:
        """One customer; the wait counts from the moment that was planned."""
        request = post(self._url, self._body, {"Idempotency-Key": f'"sale-{self._name}-{index}"'})
        try:
            answer = await self._connections.ask(request, ANSWER_TIMEOUT_SECONDS)
        except AnswerLost:
            self.statuses["without an answer"] += 1
        else:
            self.statuses[str(answer.status)] += 1
        self._milliseconds.append((time.monotonic() - due) * 1000)
        if index % 50 == 0:
            self._say(f"{self.statuses['202']:,} of {self._count:,} accepted")

    def milliseconds(self, share: float) -> float:
        """So many of the answers came within it."""
        ordered = sorted(self._milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def close(self) -> None:
        """The customers have gone."""
        self._connections.close()


SCENARIO = Scenario(
    name="flash-sale",
    title="Flash sale",
    look_for="Orders pour in. Each is answered in milliseconds, the queue 'To be charged' fills, and is worked off at "
    "the pace of the payments.",
    play=play,
    settings=(Setting("orders", "orders", 5000, 10, 50_000), Setting("seconds", "within seconds", 10, 1, 300)),
    limit_seconds=400,
)

"""What the tour asks of the system, and what it expects: one function a step."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from control_room.experiments.tour.system import POLL_SECONDS, System

Found = TypeVar("Found")

SETTLED = ("confirmed", "declined", "cancelled", "refunded", "stalled")
COPIES = 3
ITEMS = [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}]


class Wrong(Exception):
    """What happened instead of what was expected."""


@dataclass
class Progress:
    """How far a step has come, for those who watch, and what is to be reconciled at the end."""

    started_at: float | None = None
    now: str = "waiting"
    order_id: str = ""
    total: dict[str, Any] = field(default_factory=dict)
    placed_in_seconds: float | None = None
    settled_after_seconds: float | None = None

    def say(self, what: str) -> None:
        """Tell the watchers."""
        self.now = what

    @property
    def elapsed_seconds(self) -> float | None:
        """Since the order was asked for; None before."""
        return None if self.started_at is None else time.perf_counter() - self.started_at

    @property
    def speed(self) -> str:
        """How long the customer waited, and how long the rest took."""
        if self.placed_in_seconds is None or self.settled_after_seconds is None:
            return ""
        return (
            f"answered in {duration(self.placed_in_seconds)}, {self.now} after {duration(self.settled_after_seconds)}"
        )


Take = Callable[[System, Progress], Awaitable[str]]


@dataclass(frozen=True)
class Step:
    """`take` does it and returns what happened, or raises Wrong. `status` is how its order ends, `charges` how many
    charges that makes: the audit holds the books against it."""

    title: str
    asked: str
    expected: str
    status: str
    charges: int
    take: Take


async def take_normal(system: System, progress: Progress) -> str:
    """An order like any other."""
    await _place(system, progress)
    order = await _settle_as(system, progress, "confirmed")
    email = [each["status"] for each in order["notifications"] if each["channel"] == "email"]
    if email != ["delivered"]:
        raise Wrong(f"confirmed, but the email reads {email or 'not sent'}")
    return progress.speed


async def take_same_key(system: System, progress: Progress) -> str:
    """A client that sends its order twice because it never saw the first answer."""
    key = f"tour-{uuid.uuid4()}"
    await _place(system, progress, key=key)
    again = await system.place(_order("tok_visa"), key)
    same_order = again.status_code == 202 and again.json()["order_id"] == progress.order_id
    if not same_order or again.headers.get("Idempotent-Replayed") != "true":
        raise Wrong(f"the second request was answered {again.status_code}: {again.text}")
    await _settle_as(system, progress, "confirmed")
    return f"the same order both times, the second one marked as replayed; {progress.speed}"


async def take_declined(system: System, progress: Progress) -> str:
    """A card that the bank turns down."""
    await _place(system, progress, "tok_declined")
    order = await _settle_as(system, progress, "declined")
    return f"{progress.speed} ({_detail(order, 'payment.declined', 'reason') or 'no reason given'})"


async def take_flaky(system: System, progress: Progress) -> str:
    """A gateway that fails twice before it works."""
    await _place(system, progress, "tok_flaky")
    order = await _settle_as(system, progress, "confirmed")
    return f"{progress.speed}, charged at attempt {_detail(order, 'payment.succeeded', 'attempts')}"


async def take_timeout(system: System, progress: Progress) -> str:
    """A gateway that charges, and whose answer is lost on the way."""
    await _place(system, progress, "tok_timeout")
    await _settle_as(system, progress, "confirmed")
    return progress.speed


async def take_broken(system: System, progress: Progress) -> str:
    """A gateway that never works: the order stalls, and its message is parked with the reason."""
    await _place(system, progress, "tok_broken")
    await _settle_as(system, progress, "stalled")
    letter = await until(lambda: system.dead_letter(progress.order_id), POLL_SECONDS)
    headers = letter["properties"]["headers"]
    reason, attempts = headers.get("dead-letter-reason"), headers.get("dead-letter-attempts")
    if not reason or not attempts:
        raise Wrong(f"stalled, but its dead letter gives no reason: {headers}")
    return f"{progress.speed}; dead letter: {reason}, attempt {attempts}, {headers.get('dead-letter-error')}"


async def take_duplicates(system: System, progress: Progress) -> str:
    """A broker that delivers a message again, long after it was handled."""
    async with system.tap("orders", "order.placed.*") as tap:
        await _place(system, progress)
        message = await until(lambda: system.tapped(tap, progress.order_id))
    await _settle_as(system, progress, "confirmed")
    before = await system.duplicates()
    for _ in range(COPIES):
        if not await system.publish_again(message):
            raise Wrong("the exchange had no queue for the copy of the message")
    progress.say(f"confirmed; {COPIES} copies published")
    await until(lambda: _have_risen(system, before + COPIES))
    return f"confirmed; {COPIES} more copies of its message, {COPIES} more duplicates counted"


async def _have_risen(system: System, count: float) -> bool:
    return await system.duplicates() >= count


async def _place(system: System, progress: Progress, token: str = "tok_visa", key: str | None = None) -> None:  # noqa: S107
    progress.say("asking")
    progress.started_at = time.perf_counter()
    answer = await system.place(_order(token), key)
    progress.placed_in_seconds = time.perf_counter() - progress.started_at
    if answer.status_code != 202:
        raise Wrong(f"the order was answered {answer.status_code}: {answer.text}")
    placed = answer.json()
    progress.order_id, progress.total = placed["order_id"], placed["total"]
    if answer.headers.get("Location") != f"/orders/{progress.order_id}":
        raise Wrong(f"the answer's Location is {answer.headers.get('Location')!r}, not the order's")
    progress.say(placed["status"])


async def _settle_as(system: System, progress: Progress, expected: str) -> dict[str, Any]:
    """Follow the order until nothing more will happen to it by itself."""
    async with aclosing(system.changes(progress.order_id)) as changes:
        async for order in changes:
            progress.say(order["status"])
            if order["status"] in SETTLED:
                break
    progress.settled_after_seconds = progress.elapsed_seconds
    if order["status"] != expected:
        raise Wrong(f"the order is {order['status']}, not {expected}")
    return order


async def until(look: Callable[[], Awaitable[Found | None]], every_seconds: float = 0.1) -> Found:
    """Look again and again until there is something true. It has no end of its own: the step's deadline is."""
    while True:
        found = await look()
        if found:
            return found
        await asyncio.sleep(every_seconds)


def _order(token: str) -> dict[str, Any]:
    return {"customer_email": "tour@example.com", "items": ITEMS, "payment_token": token}


def _detail(order: dict[str, Any], event: str, name: str) -> Any:
    entries: Iterable[dict[str, Any]] = order["timeline"]
    return next((entry.get(name) for entry in entries if entry["type"].startswith(event)), None)


def duration(seconds: float) -> str:
    """For people: `12 ms`, `3.4 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


STEPS = (
    Step(
        title="normal",
        asked="an order",
        expected="answered at once; confirmed; email out; one charge",
        status="confirmed",
        charges=1,
        take=take_normal,
    ),
    Step(
        title="same key twice",
        asked="the same order twice under one Idempotency-Key",
        expected="one order, the second answer marked as replayed; one charge",
        status="confirmed",
        charges=1,
        take=take_same_key,
    ),
    Step(
        title="declined card",
        asked="an order with a bad card (tok_declined)",
        expected="declined; no charge",
        status="declined",
        charges=0,
        take=take_declined,
    ),
    Step(
        title="flaky gateway",
        asked="an order whose gateway fails twice (tok_flaky)",
        expected="confirmed all the same; one charge",
        status="confirmed",
        charges=1,
        take=take_flaky,
    ),
    Step(
        title="lost answer",
        asked="an order that is charged, but the answer is lost (tok_timeout)",
        expected="confirmed; exactly one charge in the gateway's ledger",
        status="confirmed",
        charges=1,
        take=take_timeout,
    ),
    Step(
        title="duplicates",
        asked=f"an order, and its order.placed.v1 published {COPIES} more times",
        expected="confirmed; every copy counted as a duplicate; one charge",
        status="confirmed",
        charges=1,
        take=take_duplicates,
    ),
    Step(
        title="broken gateway",
        asked="an order whose gateway never works (tok_broken)",
        expected="stalled after its last attempt; a dead letter says why; no charge",
        status="stalled",
        charges=0,
        take=take_broken,
    ),
)

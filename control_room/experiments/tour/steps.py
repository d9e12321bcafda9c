"""The steps of the tour: what each asks of the system and expects, and the function that takes it."""

import math
import time
import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from control_room.experiments.client import DUPLICATES, Client, notices
from control_room.experiments.traffic import Unexpected, new_order
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.roles import CHARGE, FINAL_OR_STALLED, ORDERS, PAYMENTS, TAKEN_BACK
from control_room.text import duration
from shared.messaging.message import Message
from shared.waiting import poll

EMAIL = "tour@example.com"
COPIES = 3
ORDER_LOOK_SECONDS, LOOK_SECONDS, BROKER_LOOK_SECONDS = 0.05, 0.1, 1.0


@dataclass
class StepRun:
    """A step on its way. `now` says in a word or a few how far it is, and `on_change` is called with that.

    `is_right` is None until it has ended; `happened` says how.
    """

    step: "Step"
    on_change: Callable[[str], None] = lambda _: None
    now: str = "waiting"
    order_id: str = ""
    started_at: float | None = None
    answered_after_seconds: float | None = None
    ended_after_seconds: float | None = None
    happened: str = ""
    is_right: bool | None = None

    def say(self, now: str) -> None:
        """Set `now`, and report it."""
        self.now = now
        self.on_change(now)

    def fail(self, why: str) -> None:
        """It went wrong, perhaps in one more way."""
        self.happened, self.is_right = f"{self.happened}; {why}" if self.happened else why, False

    @property
    def elapsed_seconds(self) -> float | None:
        """Since the order was requested; None before."""
        return None if self.started_at is None else time.perf_counter() - self.started_at

    @property
    def speed(self) -> str:
        """How long the customer waited, and how long the rest took."""
        if self.answered_after_seconds is None or self.ended_after_seconds is None:
            return ""
        answered, ended = duration(self.answered_after_seconds), duration(self.ended_after_seconds)
        return f"answered in {answered}, {self.now} after {ended}"


Result = TypeVar("Result")
Take = Callable[[Client, StepRun], Awaitable[str]]
Detail = Callable[[Client, dict[str, Any]], Awaitable[str]]


@dataclass(frozen=True)
class Step:
    """`take` does it and returns what happened, or raises Unexpected. Its order ends as `status`."""

    title: str
    asked: str
    expected: str
    take: Take
    status: str = "confirmed"

    @property
    def charges(self) -> int:
        """How often its order is charged."""
        return 1 if self.status in ("confirmed", "refunded") else 0


async def take_same_key(client: Client, run: StepRun) -> str:
    """A client sends its order twice, since it never saw the first answer."""
    key = f"tour-{uuid.uuid4()}"
    await _place(client, run, key=key)
    repeated = await client.place(new_order(email=EMAIL), key)
    same_order = repeated.status_code == 202 and repeated.json()["order_id"] == run.order_id
    if not same_order or repeated.headers.get("Idempotent-Replayed") != "true":
        raise Unexpected(f"the second request was answered {repeated.status_code}: {repeated.text}")
    await _end_as(client, run, "confirmed")
    return f"the same order both times, the second one marked as replayed; {run.speed}"


async def take_duplicates(client: Client, run: StepRun) -> str:
    """The broker delivers a message again, long after it was handled."""
    async with client.published(ORDERS.exchange, "order.placed.*") as messages:

        async def copied() -> Message | None:
            return next((each for each in messages if run.order_id in str(each.body)), None)

        await _place(client, run)
        message = await _poll(copied)
    await _end_as(client, run, "confirmed")

    async def duplicates() -> float:
        return await client.metric(PAYMENTS.name, DUPLICATES, {"queue": CHARGE})

    before = await duplicates()
    await client.publish([message] * COPIES if message else [])
    run.say(f"confirmed; {COPIES} copies published")
    await _poll(duplicates, until=lambda count: count >= before + COPIES)
    return f"confirmed; {COPIES} more copies of its message, {COPIES} more duplicates counted"


async def take_cancelled_in_time(client: Client, run: StepRun) -> str:
    """The customer thinks again while the charge is still tried."""
    await _place(client, run, "tok_broken")
    await _cancel(client, run)
    await _end_as(client, run, "cancelled")
    await _told(client, run, {("email", "cancellation")})
    return f"cancelled, and the customer knows that nothing was charged; {run.speed}"


async def take_refunded(client: Client, run: StepRun) -> str:
    """The customer thinks again after the receipt."""
    await _place(client, run)
    await _end_as(client, run, "confirmed")
    await _cancel(client, run)
    order = await _end_as(client, run, "refunded", TAKEN_BACK)
    await _told(client, run, {("email", "refund"), ("restaurant", "kitchen_stop")})
    return f"confirmed, then refunded ({_field(order, 'payment.refunded', 'refund_id')}); customer and kitchen know"


async def _cancel(client: Client, run: StepRun) -> None:
    """Twice, as an impatient customer clicks."""
    for _ in range(2):
        run.say(await client.cancel(run.order_id))


async def _told(client: Client, run: StepRun, expected: set[tuple[str, str]]) -> None:
    """Wait until all of this was delivered."""

    async def look() -> set[tuple[str, str]]:
        return notices(await client.order(run.order_id))

    await _poll(look, until=lambda told: told >= expected)


async def _email(_client: Client, order: dict[str, Any]) -> str:
    email = [each["status"] for each in order["notifications"] if each["channel"] == "email"]
    if email != ["delivered"]:
        raise Unexpected(f"confirmed, but the email reads {email or 'not sent'}")
    return ""


async def _decline_reason(_client: Client, order: dict[str, Any]) -> str:
    return f" ({_field(order, 'payment.declined', 'reason') or 'no reason given'})"


async def _attempts(_client: Client, order: dict[str, Any]) -> str:
    return f", charged at attempt {_field(order, 'payment.succeeded', 'attempts')}"


async def _dead_letter(client: Client, order: dict[str, Any]) -> str:
    async def look() -> list[DeadLetter]:
        return [each for each in await client.dead_letters() if each.order_id == order["order_id"]]

    letter, *_ = await _poll(look, BROKER_LOOK_SECONDS)
    if not letter.reason:
        raise Unexpected(f"stalled, but its dead letter gives no reason: {letter.message.headers}")
    return f"; dead letter: {letter.reason}, attempt {letter.attempts}, {letter.error}"


def _order(token: str, status: str = "confirmed", detail: Detail | None = None) -> Take:
    """Place an order that is paid with this token, follow it to this status, and say what is particular about it."""

    async def take(client: Client, run: StepRun) -> str:
        await _place(client, run, token)
        order = await _end_as(client, run, status)
        return run.speed + (await detail(client, order) if detail else "")

    return take


async def _place(client: Client, run: StepRun, token: str = "tok_visa", key: str | None = None) -> None:  # noqa: S107
    run.say("asking")
    run.started_at = time.perf_counter()
    answer = await client.place(new_order(token, EMAIL), key)
    run.answered_after_seconds = time.perf_counter() - run.started_at
    if answer.status_code != 202:
        raise Unexpected(f"the order was answered {answer.status_code}: {answer.text}")
    placed = answer.json()
    run.order_id = placed["order_id"]
    if answer.headers.get("Location") != f"/orders/{run.order_id}":
        raise Unexpected(f"the answer's Location is {answer.headers.get('Location')!r}, not the order's")
    run.say(placed["status"])


async def _end_as(
    client: Client, run: StepRun, expected: str, ends: Collection[str] = FINAL_OR_STALLED
) -> dict[str, Any]:
    """Follow the order until its status does not change by itself any more."""

    async def look() -> dict[str, Any]:
        order = await client.order(run.order_id)
        run.say(order["status"])
        return order

    order = await _poll(look, ORDER_LOOK_SECONDS, until=lambda order: order["status"] in ends)
    run.ended_after_seconds = run.elapsed_seconds
    if order["status"] != expected:
        raise Unexpected(f"the order is {order['status']}, not {expected}")
    return order


async def _poll(
    probe: Callable[[], Awaitable[Result]],
    every_seconds: float = LOOK_SECONDS,
    until: Callable[[Result], object] = bool,
) -> Result:
    """Without a deadline of its own: the step has one."""
    return await poll(probe, within_seconds=math.inf, every_seconds=every_seconds, until=until)


def _field(order: dict[str, Any], event: str, name: str) -> Any:
    return next((entry.get(name) for entry in order["timeline"] if entry["type"].startswith(event)), None)


STEPS = (
    Step("normal", "an order", "answered at once; confirmed; email out; one charge", _order("tok_visa", detail=_email)),
    Step(
        "same key twice",
        "the same order twice under one Idempotency-Key",
        "one order, the second answer marked as replayed; one charge",
        take_same_key,
    ),
    Step(
        "declined card",
        "an order with a bad card (tok_declined)",
        "declined; no charge",
        _order("tok_declined", "declined", _decline_reason),
        "declined",
    ),
    Step(
        "flaky gateway",
        "an order whose gateway fails twice (tok_flaky)",
        "confirmed all the same; one charge",
        _order("tok_flaky", detail=_attempts),
    ),
    Step(
        "lost answer",
        "an order that is charged, but the answer is lost (tok_timeout)",
        "confirmed; exactly one charge in the gateway's ledger",
        _order("tok_timeout"),
    ),
    Step(
        "duplicates",
        f"an order, and its order.placed.v1 published {COPIES} more times",
        "confirmed; every copy counted as a duplicate; one charge",
        take_duplicates,
    ),
    Step(
        "cancelled in time",
        "an order that is cancelled, twice, before its charge goes through",
        "cancelled; the customer is told that nothing was charged; no charge",
        take_cancelled_in_time,
        "cancelled",
    ),
    Step(
        "refunded",
        "an order that is cancelled, twice, after its receipt",
        "the money is back; customer and kitchen are told; one charge, one refund",
        take_refunded,
        "refunded",
    ),
    Step(
        "broken gateway",
        "an order whose gateway never works (tok_broken)",
        "stalled after its last attempt; a dead letter says why; no charge",
        _order("tok_broken", "stalled", _dead_letter),
        "stalled",
    ),
)

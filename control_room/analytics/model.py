"""The rules of the analytics: what an event adds to the figures of its minute. No I/O.

Each fact of an order counts once, however often and in whatever order its events come. The time is the event's own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import from_json

from shared.events import (
    OrderCancelled,
    OrderPlaced,
    PaymentDeclined,
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
)

JsonEvent = Mapping[str, Any]

ORDERS, CONFIRMED, DECLINES, CANCELLATIONS, REFUNDS = "orders", "confirmed", "declines", "cancellations", "refunds"
CAPTURED, REFUNDED = "captured", "refunded"
"""Their keys are currencies, their amounts minor units."""
UNREADABLE = "unreadable"
"""Events that are not as their type says, in no minute."""
DISHES, DURATIONS = "dishes", "milliseconds"
"""Their keys are the names of dishes, and rounded times from placed to confirmed; their amounts count them."""


class Figure(NamedTuple):
    """What is counted. `minute`: since 1970. `key` tells figures of the same name apart; empty where there is one."""

    minute: int
    name: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """When each thing happened to an order, in seconds since 1970; None if no event has said so.

    `captured_at`: charged, as its payment or, if the order was cancelled meanwhile, its refund says. `receipt_at`: the
    customer was notified of the payment.
    """

    placed_at: float | None = None
    captured_at: float | None = None
    paid_at: float | None = None
    receipt_at: float | None = None
    declined_at: float | None = None
    cancelled_at: float | None = None
    voided_at: float | None = None
    refunded_at: float | None = None

    @property
    def confirmed_at(self) -> float | None:
        """When it was both paid and its customer notified."""
        if self.paid_at is None or self.receipt_at is None:
            return None
        return max(self.paid_at, self.receipt_at)

    @property
    def seconds_to_confirm(self) -> float | None:
        if self.placed_at is None or self.confirmed_at is None:
            return None
        return max(0.0, self.confirmed_at - self.placed_at)


NOTHING = OrderFacts()
FACTS: Mapping[str, str] = {
    OrderPlaced.type_name(): "placed_at",
    OrderCancelled.type_name(): "cancelled_at",
    PaymentSucceeded.type_name(): "paid_at",
    PaymentDeclined.type_name(): "declined_at",
    PaymentVoided.type_name(): "voided_at",
    PaymentRefunded.type_name(): "refunded_at",
}
"""The fact that each event of an order or a payment says."""
COUNTED: Mapping[str, str] = {
    "placed_at": ORDERS,
    "cancelled_at": CANCELLATIONS,
    "declined_at": DECLINES,
    "refunded_at": REFUNDS,
}


class UnreadableBatch(Exception):
    """A message of the stream is no event, nor a list of events."""


def events_in(body: bytes) -> list[JsonEvent]:
    """The events of a message of the stream. Raises `UnreadableBatch`."""
    try:
        content = from_json(body)
    except ValueError as error:
        raise UnreadableBatch(str(error)) from None
    events = content if isinstance(content, list) else [content]
    for event in events:
        if not isinstance(event, dict) or not {"type", "time", "data"} <= event.keys():
            raise UnreadableBatch("a message holds something else than events")
        if not isinstance(event.get("subject"), str):
            raise UnreadableBatch("an event says nothing about what it is")
    return events


def time_of(event: JsonEvent) -> float:
    """In seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


def count(events: Iterable[JsonEvent], known: MutableMapping[str, OrderFacts]) -> Counter[Figure]:
    """What the events add to the figures; `known`, the facts of each order by its id, is brought up to date."""
    figures: Counter[Figure] = Counter()
    for event in events:
        try:
            fact, before = _fact_of(event), known.get(event["subject"], NOTHING)
            if fact is None or getattr(before, fact) is not None:
                continue
            after = _with(before, fact, time_of(event))
            added = list(_added(event, fact, before, after))
        except (KeyError, TypeError, ValueError, AttributeError):  # not as its type says: it must not stop the others
            figures[Figure(0, UNREADABLE)] += 1
            continue
        known[event["subject"]] = after
        for figure, amount in added:
            figures[figure] += amount
    return figures


def _with(facts: OrderFacts, fact: str, at: float) -> OrderFacts:
    captures = fact in ("paid_at", "refunded_at") and facts.captured_at is None
    return replace(facts, **{fact: at}, **({"captured_at": at} if captures else {}))


def _fact_of(event: JsonEvent) -> str | None:
    event_type: str = event["type"]
    if event_type == "notification.delivered.v1":
        return "receipt_at" if event["data"].get("notice") == "receipt" else None
    return FACTS.get(event_type)


def _added(event: JsonEvent, fact: str, before: OrderFacts, after: OrderFacts) -> Iterator[tuple[Figure, int]]:
    minute = int(getattr(after, fact) // 60)
    if fact in COUNTED:
        yield Figure(minute, COUNTED[fact]), 1
    if fact == "placed_at":
        for item in event["data"]["order"]["items"]:
            yield Figure(minute, DISHES, item["name"]), item["quantity"]
    if before.captured_at is None and after.captured_at is not None:
        yield _money(event, minute, CAPTURED)
    if fact == "refunded_at":
        yield _money(event, minute, REFUNDED)
    if after.confirmed_at is not None and before.confirmed_at is None:
        yield Figure(int(after.confirmed_at // 60), CONFIRMED), 1
    if after.seconds_to_confirm is not None and before.seconds_to_confirm is None:
        yield Figure(int((after.confirmed_at or 0) // 60), DURATIONS, str(rounded(after.seconds_to_confirm))), 1


def _money(event: JsonEvent, minute: int, name: str) -> tuple[Figure, int]:
    amount = event["data"]["amount"]
    return Figure(minute, name, amount["currency"]), amount["amount_minor"]


def rounded(seconds: float) -> int:
    """In milliseconds with two digits: few different values, and none is wrong by more than a twentieth."""
    milliseconds = round(seconds * 1000)
    return round(milliseconds, 2 - len(str(milliseconds)))


def percentile_of(durations: Mapping[int, int], percent: float) -> int | None:
    """The smallest duration that `percent` % of all do not exceed; `durations` counts each. None without any."""
    rank, seen = -(-sum(durations.values()) * percent // 100), 0
    for duration in sorted(durations):
        seen += durations[duration]
        if seen >= rank:
            return duration
    return None


@dataclass(frozen=True)
class Minute:
    """The figures of one minute. `revenue`: captured minus refunded in minor units, by currency.

    `p50`, `p95`: milliseconds from placed to confirmed; None if no order was confirmed.
    """

    at: int
    orders: int
    confirmed: int
    declines: int
    cancellations: int
    refunds: int
    revenue: Mapping[str, int]
    p50: int | None
    p95: int | None


def minutes_of(figures: Mapping[Figure, int]) -> list[Minute]:
    """By minute, oldest first; a minute without any event is left out."""
    by_minute: dict[int, dict[tuple[str, str], int]] = {}
    for figure, amount in figures.items():
        by_minute.setdefault(figure.minute, {})[figure.name, figure.key] = amount
    return [_minute(minute, by_minute[minute]) for minute in sorted(by_minute)]


def _minute(minute: int, figures: Mapping[tuple[str, str], int]) -> Minute:
    revenue: Counter[str] = Counter()
    durations: dict[int, int] = {}
    for (name, key), amount in figures.items():
        if name == CAPTURED:
            revenue[key] += amount
        elif name == REFUNDED:
            revenue[key] -= amount
        elif name == DURATIONS:
            durations[int(key)] = amount
    counts = {name: figures.get((name, ""), 0) for name in (ORDERS, CONFIRMED, DECLINES, CANCELLATIONS, REFUNDS)}
    p50, p95 = (percentile_of(durations, percent) for percent in (50, 95))
    return Minute(minute * 60, **counts, revenue=dict(revenue), p50=p50, p95=p95)

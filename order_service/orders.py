"""The rules of orders: what can be ordered, at what price, and the status that events lead to. No I/O."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from math import inf
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from order_service.contract import FINAL_STATUSES
from shared import mailbox
from shared.events import (
    Event,
    Money,
    NotificationDelivered,
    NotificationFailed,
    OrderItem,
    OrderPlaced,
    OrderSummary,
    PaymentDeclined,
    PaymentStalled,
    PaymentSucceeded,
    Value,
)

MAX_LINES = 50
MAX_QUANTITY = 100

PHONE_PATTERN = r"^\+[1-9][0-9]{6,14}$"
TOKEN_PATTERN = r"^tok_[a-z_]{1,60}$"  # noqa: S105 - a pattern, not a token
_CARD_NUMBER = re.compile(r"(?:\d[ -]?){12,19}")


class OrderStatus(StrEnum):
    """`stalled` is not final: a redrive of its dead letter continues the order."""

    PLACED = "placed"
    PAID = "paid"
    CONFIRMED = "confirmed"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    STALLED = "stalled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATUSES


class MenuItem(Value):
    sku: str = Field(examples=["margherita"])
    name: str = Field(examples=["Pizza Margherita"])
    price: Money


MENU = {
    sku: MenuItem(sku=sku, name=name, price=Money(amount_minor=amount_minor, currency="EUR"))
    for sku, name, amount_minor in (
        ("margherita", "Pizza Margherita", 950),
        ("diavola", "Pizza Diavola", 1150),
        ("quattro-formaggi", "Pizza Quattro Formaggi", 1250),
        ("lasagne", "Lasagne al forno", 1200),
        ("insalata", "Insalata mista", 650),
        ("tiramisu", "Tiramisù", 550),
        ("cola", "Cola 0.33 l", 300),
        ("acqua", "Acqua minerale 0.5 l", 250),
    )
}


def _phone(number: str) -> str:
    if not re.fullmatch(PHONE_PATTERN, number):
        raise ValueError("expected a phone number with country code such as +4915112345678")
    return number


def _no_card_number(token: str) -> str:
    if _CARD_NUMBER.search(token):
        raise ValueError("this looks like a card number; card numbers are never accepted, send a payment token")
    if not re.fullmatch(TOKEN_PATTERN, token):
        raise ValueError("expected a payment token such as tok_visa")
    return token


def _whole(number: object) -> object:
    """In JSON Schema `2.0` is the integer 2, while `"2"` and `true` are no integers."""
    return int(number) if type(number) is float and number.is_integer() else number


class RequestedItem(BaseModel):
    """A dish and its quantity."""

    sku: str = Field(min_length=1, max_length=64, examples=["margherita"], json_schema_extra={"enum": list(MENU)})
    quantity: Annotated[int, BeforeValidator(_whole)] = Field(strict=True, ge=1, le=MAX_QUANTITY, examples=[2])


class OrderRequest(BaseModel):
    """The body of `POST /orders`. It has no prices: they come from the menu."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "customer_email": "ada@example.com",
                    "customer_phone": "+4915112345678",
                    "items": [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}],
                    "payment_token": "tok_visa",
                }
            ]
        }
    )

    customer_email: Annotated[str, AfterValidator(mailbox.checked_mailbox)] = Field(
        max_length=mailbox.MAX_LENGTH, json_schema_extra={"pattern": mailbox.PATTERN}
    )
    customer_phone: (
        Annotated[str, AfterValidator(_phone), Field(json_schema_extra={"pattern": PHONE_PATTERN})] | None
    ) = Field(default=None, description="With country code, for text messages")
    items: list[RequestedItem] = Field(min_length=1, max_length=MAX_LINES)
    payment_token: Annotated[str, AfterValidator(_no_card_number)] = Field(
        default="tok_visa",
        max_length=64,
        description="From the payment provider. Never a card number.",
        json_schema_extra={"pattern": TOKEN_PATTERN},
    )


class UnknownDish(Exception):
    """The menu has no such dish. `index` is its position in the request's items, from 0."""

    def __init__(self, index: int, sku: str) -> None:
        super().__init__(f"{sku!r} is not on the menu; expected one of {', '.join(MENU)}")
        self.index = index


def price(request: OrderRequest) -> OrderSummary:
    """The order at the menu's prices. Raises `UnknownDish`."""
    for index, item in enumerate(request.items):
        if item.sku not in MENU:
            raise UnknownDish(index, item.sku)
    items = tuple(_line(item.sku, item.quantity) for item in request.items)
    total = sum(item.unit_price.amount_minor * item.quantity for item in items)
    return OrderSummary(
        customer_email=request.customer_email,
        customer_phone=request.customer_phone,
        items=items,
        total=Money(amount_minor=total, currency=items[0].unit_price.currency),
    )


@cache  # there are few different lines, and building one validates two models
def _line(sku: str, quantity: int) -> OrderItem:
    dish = MENU[sku]
    return OrderItem(sku=sku, name=dish.name, quantity=quantity, unit_price=dish.price)


@dataclass(frozen=True)
class TimelineEntry:
    """An event of an order. `detail`: the public part of its data. `at`: the time by its publisher's clock."""

    event_id: str
    type: str
    at: datetime
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """`timeline` is in the order of arrival. `duplicates` counts requests and events that arrived again."""

    order_id: str
    status: OrderStatus
    summary: OrderSummary
    placed_at: datetime
    timeline: Sequence[TimelineEntry]
    duplicates: int


PLACED_TYPE = OrderPlaced.model_fields["type"].default


def timeline_entry(event: Event) -> TimelineEntry:
    """The event as an entry of the order's timeline."""
    return TimelineEntry(event.id, event.type, event.time, _detail(event))


def _detail(event: Event) -> dict[str, Any]:
    match event:
        case PaymentSucceeded(data=data):
            return data.model_dump(mode="json", include={"amount", "charge_id", "attempts"})
        case PaymentDeclined(data=data):
            return data.model_dump(mode="json", include={"reason", "attempts"})
        case PaymentStalled() | NotificationDelivered() | NotificationFailed():
            return event.data.model_dump(mode="json")
        case _:
            return {}


def status_of(timeline: Collection[TimelineEntry]) -> OrderStatus:
    """The status that these events lead to, in whatever order and how often they arrived."""
    types = {entry.type for entry in timeline}
    if "payment.succeeded.v1" in types:
        return OrderStatus.CONFIRMED if any(map(_is_receipt, timeline)) else OrderStatus.PAID
    if "payment.declined.v1" in types:
        return OrderStatus.DECLINED
    return OrderStatus.STALLED if "payment.stalled.v1" in types else OrderStatus.PLACED


def _is_receipt(entry: TimelineEntry) -> bool:
    """Whether the customer has been notified of the payment."""
    return _is_delivered(entry) and entry.detail.get("notice") == "receipt"


_STEPS: tuple[tuple[type[Event], ...], ...] = (
    (OrderPlaced,),
    (PaymentStalled,),
    (PaymentSucceeded, PaymentDeclined),
    (NotificationFailed, NotificationDelivered),
)
"""The events of an order by cause: an event of one step follows from the events of earlier steps."""
_STEP_OF = {event.model_fields["type"].default: number for number, step in enumerate(_STEPS) for event in step}


def in_order(timeline: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """The entries by time, but with no effect before its cause, in whatever order they arrived.

    The services' clocks may differ by any amount, so an entry counts as no earlier than its causes.
    """
    entries = sorted(timeline, key=_rank)
    counts_as_at: dict[str, datetime] = {}
    for entry in entries:
        causes = [cause for cause in entries if _follows(entry, cause)]
        counts_as_at[entry.event_id] = max([entry.at, *(counts_as_at[cause.event_id] for cause in causes)])
    return sorted(entries, key=lambda entry: (counts_as_at[entry.event_id], _rank(entry), entry.at, entry.event_id))


def _rank(entry: TimelineEntry) -> tuple[int, bool]:
    """Lower than the rank of every entry that follows from this one."""
    return _STEP_OF.get(entry.type, len(_STEPS)), _is_delivered(entry)


def _follows(entry: TimelineEntry, cause: TimelineEntry) -> bool:
    """Whether `entry` can only have happened after `cause`."""
    if _rank(cause)[0] < _rank(entry)[0]:
        return True
    is_same_notice = _notice(cause) == _notice(entry) is not None
    return is_same_notice and _is_delivered(entry) and not _is_delivered(cause)  # a redrive delivers what had failed


def _is_delivered(entry: TimelineEntry) -> bool:
    return entry.type == "notification.delivered.v1"


def _is_notification(entry: TimelineEntry) -> bool:
    return entry.type.startswith("notification.")


def _notice(entry: TimelineEntry) -> tuple[str, str] | None:
    return (entry.detail["channel"], entry.detail["notice"]) if _is_notification(entry) else None


CHARGE = "charge"


def awaits(status: OrderStatus, timeline: Iterable[TimelineEntry], *, wants_sms: bool) -> frozenset[str]:
    """The queues, by their short names, whose consumers have yet to report on an order. Empty if it is not open.

    A stalled order and a failed notification are not waited for: an operator decides about their dead letters.
    """
    match status:
        case OrderStatus.PLACED:
            return frozenset({CHARGE})
        case OrderStatus.PAID | OrderStatus.CONFIRMED:
            channels = {"email", "restaurant"}
        case OrderStatus.DECLINED:
            channels = {"email"}
        case _:
            return frozenset()
    reported = {entry.detail["channel"] for entry in timeline if _is_notification(entry)}
    return frozenset((channels | {"sms"} if wants_sms else channels) - reported)


@dataclass(frozen=True)
class SweepDelays:
    """How many seconds the sweep waits for the report of each queue's consumer before it re-emits an order's event."""

    by_queue: Mapping[str, float]

    @property
    def usual_seconds(self) -> float:
        """The delay of an order that was just placed."""
        return self.by_queue[CHARGE]

    def seconds(self, queues: Iterable[str]) -> float:
        """The delay of an order that lacks the reports of these queues: the shortest one; infinite without any."""
        return min((self.by_queue[queue] for queue in queues), default=inf)


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest order that each service had finished some time ago, if any: `charged` and `notified`."""

    charged: str | None
    notified: str | None


def seems_lost(order_id: str, status: OrderStatus, progress: Progress) -> bool:
    """Whether the event of an order that has been open for long should be re-emitted.

    Such an order may just wait in a full queue, or for a service that is away. It seems lost once a service has
    finished a later order (ids are UUIDv7), long enough ago for this one to have been tried again.
    """
    newest = progress.charged if status is OrderStatus.PLACED else progress.notified
    return newest is not None and order_id < newest


@dataclass(frozen=True, slots=True)
class Notification:
    channel: str
    status: str
    at: datetime


def notifications_of(timeline: Iterable[TimelineEntry]) -> list[Notification]:
    """The latest state of each channel. A delivery stays, also where the event of a failure arrives later."""
    latest = {
        entry.detail["channel"]: Notification(entry.detail["channel"], entry.type.split(".")[1], entry.at)
        for entry in in_order(timeline)
        if _is_notification(entry)
    }
    return list(latest.values())

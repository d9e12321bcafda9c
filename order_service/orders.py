"""The rules of orders: what may be ordered, at what price, and what its events make of an order. No I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from math import inf
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

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
)

MAX_LINES = 50
MAX_QUANTITY = 100

PHONE_PATTERN = r"^\+[1-9][0-9]{6,14}$"
TOKEN_PATTERN = r"^tok_[a-z_]{1,60}$"  # noqa: S105 - a pattern, not a token
_CARD_NUMBER = re.compile(r"(?:\d[ -]?){12,19}")


class Status(StrEnum):
    """How far an order has come. `stalled` is not final: a redrive takes it on."""

    PLACED = "placed"
    PAID = "paid"
    CONFIRMED = "confirmed"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"
    STALLED = "stalled"

    @property
    def is_final(self) -> bool:
        return self in (Status.CONFIRMED, Status.DECLINED, Status.CANCELLED, Status.REFUNDED)


@dataclass(frozen=True)
class Dish:
    sku: str
    name: str
    price: Money


def _dish(sku: str, name: str, amount_minor: int) -> Dish:
    return Dish(sku, name, Money(amount_minor=amount_minor, currency="EUR"))


MENU = {
    dish.sku: dish
    for dish in (
        _dish("margherita", "Pizza Margherita", 950),
        _dish("diavola", "Pizza Diavola", 1150),
        _dish("quattro-formaggi", "Pizza Quattro Formaggi", 1250),
        _dish("lasagne", "Lasagne al forno", 1200),
        _dish("insalata", "Insalata mista", 650),
        _dish("tiramisu", "Tiramisù", 550),
        _dish("cola", "Cola 0.33 l", 300),
        _dish("acqua", "Acqua minerale 0.5 l", 250),
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
    """To JSON, `2.0` is the integer 2; `"2"` and `true` are not, and stay what they are."""
    return int(number) if type(number) is float and number.is_integer() else number


class RequestedItem(BaseModel):
    """A dish and how many of it."""

    sku: str = Field(min_length=1, max_length=64, examples=["margherita"], json_schema_extra={"enum": list(MENU)})
    quantity: Annotated[int, BeforeValidator(_whole)] = Field(strict=True, ge=1, le=MAX_QUANTITY, examples=[2])


class OrderRequest(BaseModel):
    """What a customer asks for. There is no price in it: prices come from the menu."""

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
    """The menu has no such dish. `index` is its place in the request's items, from 0."""

    def __init__(self, index: int, sku: str) -> None:
        super().__init__(f"{sku!r} is not on the menu; expected one of {', '.join(MENU)}")
        self.index = index


def price(request: OrderRequest) -> OrderSummary:
    """The order at the menu's prices. Raises `UnknownDish`."""
    items = tuple(_priced(index, item) for index, item in enumerate(request.items))
    total = sum(item.unit_price.amount_minor * item.quantity for item in items)
    return OrderSummary(
        customer_email=request.customer_email,
        customer_phone=request.customer_phone,
        items=items,
        total=Money(amount_minor=total, currency=items[0].unit_price.currency),
    )


def _priced(index: int, item: RequestedItem) -> OrderItem:
    if item.sku not in MENU:
        raise UnknownDish(index, item.sku)
    return _line(item.sku, item.quantity)


@cache  # they are few, and each is made of models that have to be validated
def _line(sku: str, quantity: int) -> OrderItem:
    dish = MENU[sku]
    return OrderItem(sku=sku, name=dish.name, quantity=quantity, unit_price=dish.price)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened to an order. `type` is the event's, `detail` what a reader may see of its data.

    `at` is when it happened, by the clock of the service that reports it.
    """

    event_id: str
    type: str
    at: datetime
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """`duplicates`: how often a request or a report about it arrived once more, and changed nothing.

    `timeline` is in the order of arrival; `in_order` makes of it what a reader expects.
    """

    order_id: str
    status: Status
    summary: OrderSummary
    placed_at: datetime
    timeline: Sequence[TimelineEntry] = ()
    duplicates: int = 0


PLACED_TYPE = OrderPlaced.model_fields["type"].default


def timeline_entry(event: Event) -> TimelineEntry:
    """What the order's timeline says of an event."""
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


def status_of(timeline: Iterable[TimelineEntry]) -> Status:
    """The status that these events add up to, whatever order they arrived in and however often."""
    types = set()
    is_told = False
    for entry in timeline:
        types.add(entry.type)
        is_told = is_told or _tells_of_payment(entry)
    if "payment.succeeded.v1" in types:
        return Status.CONFIRMED if is_told else Status.PAID
    if "payment.declined.v1" in types:
        return Status.DECLINED
    return Status.STALLED if "payment.stalled.v1" in types else Status.PLACED


_STEPS: tuple[tuple[type[Event], ...], ...] = (
    (OrderPlaced,),
    (PaymentStalled,),
    (PaymentSucceeded, PaymentDeclined),
    (NotificationFailed, NotificationDelivered),
)
"""What happens to an order: an event of one step follows from those of the steps before."""
_STEP_OF = {event.model_fields["type"].default: number for number, step in enumerate(_STEPS) for event in step}


def in_order(timeline: Iterable[TimelineEntry]) -> list[TimelineEntry]:
    """The entries as a reader expects them: by time, but no effect before its cause. The order of arrival has no part.

    The services' clocks may disagree by any amount. So an entry counts as no earlier than what it follows from.
    """
    entries = sorted(timeline, key=_rank)
    counts_as_at: dict[str, datetime] = {}
    for entry in entries:
        causes = [cause for cause in entries if _follows(entry, cause)]
        counts_as_at[entry.event_id] = max([entry.at, *(counts_as_at[cause.event_id] for cause in causes)])
    return sorted(entries, key=lambda entry: (counts_as_at[entry.event_id], _rank(entry), entry.at, entry.event_id))


def _rank(entry: TimelineEntry) -> tuple[int, bool]:
    """Lower than that of any entry that follows from it."""
    return _STEP_OF.get(entry.type, len(_STEPS)), _is_delivered(entry)


def _follows(entry: TimelineEntry, cause: TimelineEntry) -> bool:
    """Whether `entry` can only have happened after `cause`."""
    if _rank(cause)[0] < _rank(entry)[0]:
        return True
    is_same_letter = _letter(cause) == _letter(entry) is not None
    return is_same_letter and _is_delivered(entry) and not _is_delivered(cause)  # a redrive delivers what had failed


def _is_delivered(entry: TimelineEntry) -> bool:
    return entry.type == "notification.delivered.v1"


def _letter(entry: TimelineEntry) -> tuple[str, str] | None:
    return (entry.detail["channel"], entry.detail["notice"]) if entry.type.startswith("notification.") else None


CHARGE = "charge"


def awaits(status: Status, timeline: Iterable[TimelineEntry], *, wants_sms: bool) -> frozenset[str]:
    """The queues, by their short names, whose consumers have yet to report on an order. Empty if it is not open.

    A stalled order or a failed notification is not waited for: its dead letter waits for a person.
    """
    match status:
        case Status.PLACED:
            return frozenset({CHARGE})
        case Status.PAID | Status.CONFIRMED:
            to_be_told = {"email", "restaurant"}
        case Status.DECLINED:
            to_be_told = {"email"}
        case _:
            return frozenset()
    told = {entry.detail["channel"] for entry in timeline if entry.type.startswith("notification.")}
    return frozenset((to_be_told | {"sms"} if wants_sms else to_be_told) - told)


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
class Turns:
    """How far the services have come: the newest order that each had dealt with some time ago, if any.

    `answered` by the payment service, `told` to everyone by the notification service. Ids of orders are UUIDv7.
    """

    answered: str | None
    told: str | None


def seems_lost(order_id: str, status: Status, turns: Turns) -> bool:
    """Whether an open order that nothing has been heard of for long should have its event told again.

    It may wait long without being lost: the rail is full, or who should work on it is away. It seems lost once a
    later one had its turn, and long enough ago for this one to have been tried again.
    """
    passed_by = turns.answered if status is Status.PLACED else turns.told
    return passed_by is not None and order_id < passed_by


def _tells_of_payment(entry: TimelineEntry) -> bool:
    """Whether the customer, not just the kitchen, now knows that the order is paid."""
    return entry.type == "notification.delivered.v1" and entry.detail.get("notice") == "receipt"


@dataclass(frozen=True, slots=True)
class Notification:
    channel: str
    status: str
    at: datetime


def notifications_of(timeline: Iterable[TimelineEntry]) -> list[Notification]:
    """The latest state of each channel that has reported: what was delivered stays so, whatever is heard later."""
    latest = {
        entry.detail["channel"]: Notification(entry.detail["channel"], entry.type.split(".")[1], entry.at)
        for entry in in_order(timeline)
        if entry.type.startswith("notification.")
    }
    return list(latest.values())

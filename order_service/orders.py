"""The rules of orders: what can be ordered, at what price, and the status that events lead to. No I/O."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from order_service.contract import CONTRACT, FINAL_STATUSES
from shared import mailbox
from shared.events import (
    Event,
    Money,
    NotificationDelivered,
    NotificationFailed,
    OrderCancelled,
    OrderCancelledData,
    OrderItem,
    OrderPlaced,
    OrderSummary,
    PaymentDeclined,
    PaymentRefunded,
    PaymentStalled,
    PaymentSucceeded,
    PaymentVoided,
    Value,
)
from shared.ids import new_id
from shared.whole_number import WholeNumber

MAX_LINES = 50
MAX_QUANTITY = 100

# What people write between the digits, and the invisible characters that come along when a number is copied.
_BETWEEN = r"[ \t\u00a0\u2009\u202f\u200b-\u200f\u202a-\u202e\u2060\ufeff().\/\u2010-\u2015\u2212-]*"
PHONE_PATTERN = rf"^{_BETWEEN}(?:\+|00){_BETWEEN}[1-9](?:{_BETWEEN}[0-9]){{6,14}}{_BETWEEN}$"
PUSH_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
TOKEN_PATTERN = r"^tok_[a-z_]{1,60}$"  # noqa: S105 - a pattern, not a token
_CARD_NUMBER = re.compile(r"(?:\d[ -]?){12,19}")


class OrderStatus(StrEnum):
    """`stalled` is not final: a redrive of its dead letter continues the order."""

    PLACED = "placed"
    PAID = "paid"
    CONFIRMED = "confirmed"
    DECLINED = "declined"
    CANCELLING = "cancelling"
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
    """The number without what people write between its digits: `+49 (0)151 123-45678` becomes `+4915112345678`."""
    digits = re.sub(r"\D", "", re.sub(r"\( *0 *\)", "", number)).removeprefix("00")
    if not re.fullmatch(PHONE_PATTERN, number) or not re.fullmatch("[1-9][0-9]{6,14}", digits):
        raise ValueError("expected a phone number with country code such as +49 151 12345678")
    return f"+{digits}"


def _push(recipient: str) -> str:
    if not re.fullmatch(PUSH_PATTERN, recipient):
        raise ValueError("expected a topic or key of at most 64 characters: A-Z, a-z, 0-9, _ and -")
    return recipient


def _no_card_number(token: str) -> str:
    if _CARD_NUMBER.search(token):
        raise ValueError("this looks like a card number; card numbers are never accepted, send a payment token")
    if not re.fullmatch(TOKEN_PATTERN, token):
        raise ValueError("expected a payment token such as tok_visa")
    return token


class RequestedItem(BaseModel):
    """A dish and its quantity."""

    sku: str = Field(min_length=1, max_length=64, examples=["margherita"], json_schema_extra={"enum": list(MENU)})
    quantity: WholeNumber = Field(ge=1, le=MAX_QUANTITY, examples=[2])


class OrderRequest(BaseModel):
    """The body of `POST /orders`. It has no prices: they come from the menu."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "customer_email": "ada@example.com",
                    "customer_phone": "+49 151 12345678",
                    "items": [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}],
                    "payment_token": "tok_visa",
                }
            ]
        }
    )

    customer_email: Annotated[str, AfterValidator(mailbox.checked_mailbox)] = Field(
        json_schema_extra={"maxLength": mailbox.MAX_LENGTH, "pattern": mailbox.PATTERN}
    )
    customer_phone: (
        Annotated[str, AfterValidator(_phone), Field(json_schema_extra={"pattern": PHONE_PATTERN})] | None
    ) = Field(default=None, description="With country code, for text messages; spaces, dots and the like may stay")
    customer_push: Annotated[str, AfterValidator(_push), Field(json_schema_extra={"pattern": PUSH_PATTERN})] | None = (
        Field(default=None, description="For push messages: the topic or key that the customer's app listens to")
    )
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
        customer_push=request.customer_push,
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


PLACED_TYPE, CANCELLED_TYPE = OrderPlaced.type_name(), OrderCancelled.type_name()


def timeline_entry(event: Event) -> TimelineEntry:
    """The event as an entry of the order's timeline."""
    return TimelineEntry(event.id, event.type, event.time, _detail(event))


def _detail(event: Event) -> dict[str, Any]:
    match event:
        case PaymentSucceeded(data=data):
            return data.model_dump(mode="json", include={"amount", "charge_id", "attempts"})
        case PaymentDeclined(data=data):
            return data.model_dump(mode="json", include={"reason", "attempts"})
        case PaymentRefunded(data=data):
            return data.model_dump(mode="json", include={"amount", "refund_id", "attempts"})
        case OrderCancelled(data=data):
            return {"reason": data.reason}
        case PaymentStalled() | NotificationDelivered() | NotificationFailed():
            return event.data.model_dump(mode="json")
        case _:
            return {}


def status_of(timeline: Collection[TimelineEntry]) -> OrderStatus:
    """The status that these events lead to, in whatever order and how often they arrived."""
    types = {entry.type for entry in timeline}
    for event, status in _ENDS:
        if event.type_name() in types:
            return OrderStatus.CONFIRMED if status is OrderStatus.PAID and any(map(_is_receipt, timeline)) else status
    return OrderStatus.PLACED


_ENDS: tuple[tuple[type[Event], OrderStatus], ...] = (
    (PaymentRefunded, OrderStatus.REFUNDED),
    (PaymentVoided, OrderStatus.CANCELLED),
    (OrderCancelled, OrderStatus.CANCELLING),
    (PaymentSucceeded, OrderStatus.PAID),
    (PaymentDeclined, OrderStatus.DECLINED),
    (PaymentStalled, OrderStatus.STALLED),
)
"""The status that an event leads to, unless an event further up has happened as well."""


def _is_receipt(entry: TimelineEntry) -> bool:
    """Whether the customer has been notified of the payment."""
    return is_delivered(entry) and entry.detail.get("notice") == "receipt"


Reason = Literal["customer", "payment-timeout"]


@dataclass(frozen=True, slots=True)
class CancellationRules:
    """How long after its placement an order can be cancelled."""

    within_seconds: float

    def until(self, placed_at: datetime) -> datetime:
        """The last moment for an order that was placed then."""
        return placed_at + timedelta(seconds=self.within_seconds)

    def why_not(self, status: OrderStatus, placed_at: datetime, now: datetime) -> str | None:
        """Why an order can't be cancelled now; None if it can be. A stalled one always can."""
        match status:
            case OrderStatus.CANCELLING | OrderStatus.CANCELLED | OrderStatus.REFUNDED:
                return "it is cancelled already"
            case OrderStatus.DECLINED:
                return "its payment was declined, so nothing was charged and nothing will be delivered"
            case OrderStatus.STALLED:
                return None
        if now <= (until := self.until(placed_at)):
            return None
        return f"that was possible until {until:%Y-%m-%d %H:%M:%S} UTC, {self.within_seconds:g} s after it was placed"


def cancellation(reason: Reason) -> TimelineEntry:
    """The entry of an order that is cancelled now."""
    return TimelineEntry(new_id(), CANCELLED_TYPE, datetime.now(UTC), {"reason": reason})


def cancellation_in(timeline: Iterable[TimelineEntry]) -> TimelineEntry | None:
    """The entry of the order's cancellation, if it was cancelled."""
    return next((entry for entry in timeline if entry.type == CANCELLED_TYPE), None)


def cancelled(
    order_id: str,
    summary: OrderSummary,
    entry: TimelineEntry,
    *,
    traceparent: str | None = None,
    again: Literal[True] | None = None,
) -> OrderCancelled:
    """The event of a cancellation, with the same id each time."""
    data = OrderCancelledData(order=summary, reason=entry.detail["reason"])
    event = OrderCancelled.about(
        order_id, id=entry.event_id, source=CONTRACT.name, time=entry.at, again=again, data=data
    )
    return event.model_copy(update={"traceparent": traceparent})


def is_delivered(entry: TimelineEntry) -> bool:
    return entry.type == "notification.delivered.v1"


def is_notification(entry: TimelineEntry) -> bool:
    return entry.type.startswith("notification.")


def notice_of(entry: TimelineEntry) -> tuple[str, str] | None:
    return (entry.detail["channel"], entry.detail["notice"]) if is_notification(entry) else None


CHARGE = "charge"
OPTIONAL_CHANNELS = ("sms", "push")
"""Those for which the customer may leave an address."""
_AWAITED: Mapping[OrderStatus, tuple[str, Mapping[str, str]]] = {
    OrderStatus.PAID: ("receipt", {"restaurant": "kitchen_ticket"}),
    OrderStatus.CONFIRMED: ("receipt", {"restaurant": "kitchen_ticket"}),
    OrderStatus.DECLINED: ("decline", {}),
    OrderStatus.CANCELLED: ("cancellation", {}),
    OrderStatus.REFUNDED: ("refund", {"restaurant": "kitchen_stop"}),
}
"""The notice to the customer at each status, and those over further channels."""


def awaits(status: OrderStatus, timeline: Iterable[TimelineEntry], wanted: Iterable[str]) -> frozenset[str]:
    """The queues, by their short names, whose consumers have yet to report on an order. Empty if it is not open.

    `wanted`: the optional channels that the customer chose. A stalled order and a failed notification are not waited
    for: an operator decides about their dead letters.
    """
    if status in (OrderStatus.PLACED, OrderStatus.CANCELLING):
        return frozenset({CHARGE})
    if status not in _AWAITED:
        return frozenset()
    notice, others = _AWAITED[status]
    reported = {notice_of(entry) for entry in timeline}
    expected = {**dict.fromkeys(("email", *wanted), notice), **others}
    return frozenset(channel for channel, notice in expected.items() if (channel, notice) not in reported)


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


def seems_lost(event_id: str, status: OrderStatus, progress: Progress) -> bool:
    """Whether the event of an order that has been open for long should be re-emitted.

    Such an order may just wait in a full queue, or for a service that is away. It seems lost once a service has
    finished an order that is younger than the event (ids are UUIDv7), long enough ago for this one to have been tried
    again.
    """
    newest = progress.charged if status in (OrderStatus.PLACED, OrderStatus.CANCELLING) else progress.notified
    return newest is not None and event_id < newest

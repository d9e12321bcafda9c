"""The language the services share: every event type with its version, and its form on the wire.

An event is a CloudEvents 1.0 envelope in structured JSON mode; its data is one of the models below. A type's name
ends in its version. A change that old readers could not read gets a new version and a new class beside the old one.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.ids import OrderId, new_id
from shared.observability.tracing import current_traceparent

MAX_EVENT_BYTES = 256 * 1024
"""The largest event that is written or read. An order of the largest legal request is a tenth of this."""

CONTENT_TYPE = "application/cloudevents+json"


class Value(BaseModel):
    """Base of the immutable values. Unknown fields are ignored, so that a newer writer can add one."""

    model_config = ConfigDict(frozen=True)


class Money(Value):
    """An amount in integer minor units (cents) of an ISO 4217 currency."""

    amount_minor: int = Field(ge=0, le=10**12, examples=[2350])
    currency: str = Field(pattern="^[A-Z]{3}$", examples=["EUR"])


class OrderItem(Value):
    """One line of an order at the price of the menu when it was placed."""

    sku: str
    name: str
    quantity: int = Field(ge=1, le=1_000_000)
    unit_price: Money


class OrderSummary(Value):
    """What those who serve an order need to know of it; carried in the events, so that nobody has to ask."""

    customer_email: str
    customer_phone: str | None = None
    items: tuple[OrderItem, ...]
    total: Money


class OrderPlacedData(Value):
    order: OrderSummary
    payment_token: str


class PaymentSucceededData(Value):
    order: OrderSummary
    amount: Money
    charge_id: str
    attempts: int = Field(ge=1)


class PaymentDeclinedData(Value):
    order: OrderSummary
    reason: str
    attempts: int = Field(ge=1)


class PaymentStalledData(Value):
    """The charge was given up after `attempts`; a dead letter says why, and a redrive may still bring an answer."""

    error: str
    attempts: int = Field(ge=1)


Channel = Literal["email", "sms", "restaurant"]
Notice = Literal["receipt", "decline", "kitchen_ticket"]


class NotificationData(Value):
    channel: Channel
    notice: Notice
    attempts: int = Field(ge=1)


class NotificationFailedData(NotificationData):
    error: str


class Event(BaseModel):
    """The CloudEvents envelope. `subject` is the order id, `time` is aware UTC, `source` is the writing service."""

    model_config = ConfigDict(frozen=True)

    EXCHANGE: ClassVar[str]

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=128)
    source: str = Field(min_length=1, max_length=128)
    type: str
    subject: OrderId
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = Field(default=None, max_length=128)
    again: Literal[True] | None = None
    """Set by the sweep: who finds the work done already says so again, in case word of it was lost."""
    data: Any

    @classmethod
    def about(
        cls,
        order_id: str,
        *,
        source: str,
        data: Value,
        id: str | None = None,
        time: datetime | None = None,
        again: Literal[True] | None = None,
    ) -> Self:
        """A new event of this type about an order, within the current trace; or one told `again`, with id and time."""
        return cls(  # type: ignore[call-arg]  # each subclass has its own type as the default
            id=id or new_id(),
            source=source,
            subject=order_id,
            time=time or datetime.now(UTC),
            again=again,
            traceparent=current_traceparent(),
            data=data,
        )


class OrderPlaced(Event):
    EXCHANGE = "orders"
    type: Literal["order.placed.v1"] = "order.placed.v1"
    data: OrderPlacedData


class PaymentSucceeded(Event):
    EXCHANGE = "payments"
    type: Literal["payment.succeeded.v1"] = "payment.succeeded.v1"
    data: PaymentSucceededData


class PaymentDeclined(Event):
    EXCHANGE = "payments"
    type: Literal["payment.declined.v1"] = "payment.declined.v1"
    data: PaymentDeclinedData


class PaymentStalled(Event):
    EXCHANGE = "payments"
    type: Literal["payment.stalled.v1"] = "payment.stalled.v1"
    data: PaymentStalledData


class NotificationDelivered(Event):
    EXCHANGE = "notifications"
    type: Literal["notification.delivered.v1"] = "notification.delivered.v1"
    data: NotificationData


class NotificationFailed(Event):
    EXCHANGE = "notifications"
    type: Literal["notification.failed.v1"] = "notification.failed.v1"
    data: NotificationFailedData


AnyEvent = (
    OrderPlaced | PaymentSucceeded | PaymentDeclined | PaymentStalled | NotificationDelivered | NotificationFailed
)

EVENT_TYPES = frozenset(str(event.model_fields["type"].default) for event in get_args(AnyEvent))
_FAMILIES = frozenset(event_type.rpartition(".")[0] for event_type in EVENT_TYPES)
_READS_LIKE_A_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_READER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])


class UnreadableEvent(Exception):
    """A body that is no event of ours and never will be. `reason` is the word for the dead letter."""

    reason = "unreadable"


class Oversize(UnreadableEvent):
    reason = "oversize"


class NotJson(UnreadableEvent):
    reason = "not-json"


class UnknownType(UnreadableEvent):
    reason = "unknown-type"


class UnknownVersion(UnreadableEvent):
    reason = "unknown-version"


class SchemaMismatch(UnreadableEvent):
    reason = "schema-mismatch"


def encode(event: Event) -> bytes:
    """The event as CloudEvents JSON. Raises `Oversize` above `MAX_EVENT_BYTES`: it must not reach the outbox."""
    body = event.model_dump_json(exclude_none=True).encode()
    _check_size(body)
    return body


def decode(body: bytes) -> AnyEvent:
    """The event in a message's body. Raises a kind of `UnreadableEvent` that says which and what was expected."""
    _check_size(body)
    try:
        return _READER.validate_json(body)
    except ValidationError as error:
        raise _unreadable(error) from None


def _check_size(body: bytes) -> None:
    if len(body) > MAX_EVENT_BYTES:
        raise Oversize(f"{len(body)} bytes, expected at most {MAX_EVENT_BYTES}")


def _unreadable(error: ValidationError) -> UnreadableEvent:
    first = error.errors(include_url=False, include_input=False)[0]
    match first["type"]:
        case "json_invalid":
            return NotJson(first["msg"])
        case "union_tag_invalid":
            return _unknown(str(first["ctx"]["tag"]))
    # Location and message only: the input may hold a customer's data, and an error is logged.
    field = ".".join(str(part) for part in first["loc"][1:]) or "envelope"
    return SchemaMismatch(f"{field}: {first['msg']}")


def _unknown(event_type: str) -> UnreadableEvent:
    # Told only where it reads like a type: in place of one, too, there may be a customer's data.
    told = f"type {event_type!r}" if _READS_LIKE_A_TYPE.fullmatch(event_type) else "what stands for the type is none"
    kind = UnknownVersion if event_type.rpartition(".")[0] in _FAMILIES else UnknownType
    return kind(f"{told}, expected one of {sorted(EVENT_TYPES)}")

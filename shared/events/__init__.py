"""The language that the services share: every event with its version, a file for each service that publishes."""

from shared.events.codec import (
    CONTENT_TYPE,
    MAX_EVENT_BYTES,
    NotJson,
    Oversize,
    SchemaMismatch,
    UnknownType,
    UnknownVersion,
    UnreadableEvent,
    decode,
    encode,
    event_classes,
)
from shared.events.envelope import Event, Money, Value
from shared.events.notifications import (
    ChannelName,
    NoticeKind,
    NotificationData,
    NotificationDelivered,
    NotificationFailed,
    NotificationFailedData,
)
from shared.events.orders import OrderItem, OrderPlaced, OrderPlacedData, OrderSummary
from shared.events.payments import (
    PaymentDeclined,
    PaymentDeclinedData,
    PaymentStalled,
    PaymentStalledData,
    PaymentSucceeded,
    PaymentSucceededData,
)

__all__ = [
    "CONTENT_TYPE",
    "MAX_EVENT_BYTES",
    "ChannelName",
    "Event",
    "Money",
    "NotJson",
    "NoticeKind",
    "NotificationData",
    "NotificationDelivered",
    "NotificationFailed",
    "NotificationFailedData",
    "OrderItem",
    "OrderPlaced",
    "OrderPlacedData",
    "OrderSummary",
    "Oversize",
    "PaymentDeclined",
    "PaymentDeclinedData",
    "PaymentStalled",
    "PaymentStalledData",
    "PaymentSucceeded",
    "PaymentSucceededData",
    "SchemaMismatch",
    "UnknownType",
    "UnknownVersion",
    "UnreadableEvent",
    "Value",
    "decode",
    "encode",
    "event_classes",
]

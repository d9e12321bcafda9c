"""What the notification service is to the others."""

from shared.contract import ATTEMPT_SECONDS, QueueContract, RetryDelays, ServiceContract, Stage
from shared.events import (
    Event,
    NotificationDelivered,
    NotificationFailed,
    PaymentDeclined,
    PaymentRefunded,
    PaymentSucceeded,
    PaymentVoided,
)

EMAIL_DELAYS = RetryDelays(
    "EMAIL_RETRY_DELAYS_SECONDS",
    (1, 5, 30, 60, 300, 900, 1800, 1800),
    "the same for emails alone. 81 minutes in all, since a mail server that greylists takes a mail only from an "
    "attempt that comes after 1 to 15 minutes, rarely 30",
)

SMS_DELAYS = RetryDelays(
    "SMS_RETRY_DELAYS_SECONDS",
    (5, 30, 300, 900, 2700),
    "the same for text messages: 65 minutes, so that a provider may be away for an hour",
)
PUSH_DELAYS = RetryDelays("PUSH_RETRY_DELAYS_SECONDS", SMS_DELAYS.default_seconds, "the same for push notifications")
RESTAURANT_DELAYS = RetryDelays(
    "RESTAURANT_RETRY_DELAYS_SECONDS",
    (1, 5, 30, 60, 300, 900, 2400),
    "the same for kitchen tickets, with more attempts in the first minutes: 62 minutes",
)

EMAIL_ATTEMPT_SECONDS = 1200.0
"""A mail server may take 10 minutes for the last of its answers alone (RFC 5321)."""


def _channel(
    name: str,
    title: str,
    attempt_seconds: float = ATTEMPT_SECONDS,
    retry_delays: RetryDelays | None = None,
    more: tuple[type[Event], ...] = (PaymentVoided,),
) -> QueueContract:
    # A queue for each channel, so that a slow mail server never delays the kitchen.
    takes: tuple[type[Event], ...] = (PaymentSucceeded, PaymentDeclined, PaymentRefunded, *more)
    return QueueContract(name, title, takes, attempt_seconds, retry_delays)


CHANNELS = (
    _channel("email", "Emails to customers", EMAIL_ATTEMPT_SECONDS, EMAIL_DELAYS),
    _channel("sms", "Text messages", retry_delays=SMS_DELAYS),
    _channel("push", "Push messages", retry_delays=PUSH_DELAYS),
    # Of a voided order it has no ticket.
    _channel("restaurant", "Kitchen tickets", retry_delays=RESTAURANT_DELAYS, more=()),
)

CONTRACT = ServiceContract(
    name="notification_service",
    title="Notification service",
    port=8002,
    exchange="notifications",
    publishes=(NotificationDelivered, NotificationFailed),
    queues=CHANNELS,
    stages=(Stage("customers notified", label="customers notified", queue="email"),),
    outside=tuple(f"{channel.name}_URL".upper() for channel in CHANNELS),
)

"""The order service's handlers: events of the other services update an order's timeline and status."""

from collections.abc import Sequence

from order_service import store
from order_service.contract import CONTRACT
from order_service.live import Changes
from order_service.orders import SweepDelays, timeline_entry
from order_service.store import Report, Tracked
from shared.events import (
    Event,
    NotificationDelivered,
    NotificationFailed,
    PaymentDeclined,
    PaymentRefunded,
    PaymentStalled,
    PaymentSucceeded,
    PaymentVoided,
)
from shared.messaging.processor import Subscription
from shared.messaging.retry import DONE, DUPLICATE, Ack, PermanentError
from shared.persistence.database import Database

TRACK_CONCURRENCY = 250
EVENTS: Sequence[type[Event]] = (
    PaymentSucceeded, PaymentDeclined, PaymentStalled, PaymentVoided, PaymentRefunded,
    NotificationDelivered, NotificationFailed,
)  # fmt: skip

LINGER_SECONDS = 0.02
"""How long a report may wait for others, so that one commit writes them: each order has several reports."""


class Tracking:
    """Keeps each order's timeline and status."""

    def __init__(self, database: Database, changes: Changes, sweep_delays: SweepDelays) -> None:
        self._database = database
        self._changes = changes
        self._sweep_delays = sweep_delays

    async def track(self, event: Event, attempt: int) -> Ack:
        """Handle any event of the other services. Raises `PermanentError` for an order that was never placed here."""
        report = Report(event.subject, timeline_entry(event), self._sweep_delays)
        result = await self._database.write(store.track, report, linger_seconds=LINGER_SECONDS)
        if result is Tracked.UNKNOWN_ORDER:
            raise PermanentError("unknown-order", f"no order {event.subject} was placed here")
        self._changes.notify(event.subject)
        return DUPLICATE if result is Tracked.DUPLICATE else DONE


def subscriptions(tracking: Tracking) -> list[Subscription]:
    handlers = dict.fromkeys(EVENTS, tracking.track)
    return [Subscription(CONTRACT.queue_name("track"), handlers=handlers, concurrency=TRACK_CONCURRENCY)]

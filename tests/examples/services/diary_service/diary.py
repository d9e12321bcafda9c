"""The rules of the diary service: types and decisions. No I/O."""

from dataclasses import dataclass
from datetime import datetime

from shared.events import PaymentSucceeded


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept of one order. The order id is the idempotency key: the second delivery finds the entry."""

    order_id: str
    cause: str
    at: datetime


def entry_of(event: PaymentSucceeded) -> Entry:
    """The entry that an event makes."""
    return Entry(event.subject, cause=event.type, at=event.time)

"""The rules of the herald service: types and decisions. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from herald_service.contract import CONTRACT
from herald_service.events import HeraldAnnounced, HeraldAnnouncedData
from shared.events import PaymentSucceeded
from shared.ids import new_id


@dataclass(frozen=True)
class Entry:
    """What was done for one order. `event_id`: of the event that reports it, the same each time it is published."""

    order_id: str
    status: str
    cause: str
    at: datetime
    event_id: str


REPLACES = {"done": ()}
"""By the status of a new entry: those of the entries that it may replace. A second delivery finds "done", and stops."""


def entry_of(event: PaymentSucceeded) -> Entry:
    """The entry of work that was just done."""
    return Entry(event.subject, "done", event.type, datetime.now(UTC), new_id())


def event_of(entry: Entry, cause: PaymentSucceeded) -> HeraldAnnounced:
    """The event of an entry, with the same id each time; re-emitted if its cause was."""
    data = HeraldAnnouncedData(cause=entry.cause)
    about: dict[str, Any] = {"source": CONTRACT.name, "id": entry.event_id, "time": entry.at, "again": cause.again}
    return HeraldAnnounced.about(entry.order_id, data=data, **about)

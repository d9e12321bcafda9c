"""A timeline for people: causes before effects, whatever arrived first and whatever the clocks say. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from order_service.orders import TimelineEntry, is_delivered, is_notification, notice_of
from shared.events import (
    Event,
    OrderCancelled,
    OrderPlaced,
    PaymentDeclined,
    PaymentRefunded,
    PaymentStalled,
    PaymentSucceeded,
    PaymentVoided,
)

_CAUSES: Mapping[type[Event], tuple[type[Event], ...]] = {
    OrderPlaced: (),
    OrderCancelled: (OrderPlaced,),
    PaymentStalled: (OrderPlaced,),
    PaymentSucceeded: (PaymentStalled,),
    PaymentDeclined: (PaymentStalled,),
    PaymentVoided: (OrderCancelled, PaymentDeclined),
    PaymentRefunded: (OrderCancelled, PaymentSucceeded, PaymentVoided),
}
"""Which events, and the causes of those, come before an event if they happen at all. Each stands below its causes."""
_NOTICES: Mapping[type[Event], tuple[str, ...]] = {
    PaymentSucceeded: ("receipt", "kitchen_ticket"),
    PaymentDeclined: ("decline",),
    PaymentVoided: ("cancellation",),
    PaymentRefunded: ("refund", "kitchen_stop"),
}
"""The notices that follow from an event."""

_STEPS = [event.type_name() for event in _CAUSES]
_BEFORE: dict[str, frozenset[str]] = {}
for _event, _causes in _CAUSES.items():
    _names = {each.type_name() for each in _causes}
    _BEFORE[_event.type_name()] = frozenset(_names).union(*(_BEFORE[name] for name in _names))
_CAUSE_OF_NOTICE = {notice: event.type_name() for event, notices in _NOTICES.items() for notice in notices}


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


def _rank(entry: TimelineEntry) -> tuple[int, bool, bool]:
    """Lower than the rank of every entry that follows from this one; highest for what is unknown here."""
    step = _step(entry)
    return _STEPS.index(step) if step in _BEFORE else len(_STEPS), is_notification(entry), is_delivered(entry)


def _step(entry: TimelineEntry) -> str:
    """The type of an entry; of a notification that of the event which it is about."""
    return _CAUSE_OF_NOTICE.get(entry.detail["notice"], "") if is_notification(entry) else entry.type


def _follows(entry: TimelineEntry, cause: TimelineEntry) -> bool:
    """Whether `entry` can only have happened after `cause`."""
    step = _step(entry)
    if step not in _BEFORE:
        return _rank(cause) < _rank(entry)
    if is_notification(cause):  # a redrive delivers what had failed
        return notice_of(cause) == notice_of(entry) and is_delivered(entry) and not is_delivered(cause)
    return cause.type in _BEFORE[step] or (cause.type == step and is_notification(entry))


@dataclass(frozen=True, slots=True)
class Notification:
    channel: str
    status: str
    at: datetime
    notice: str


def notifications_of(timeline: Iterable[TimelineEntry]) -> list[Notification]:
    """The latest state of each channel. A delivery stays, also where the event of a failure arrives later."""
    latest = {
        entry.detail["channel"]: Notification(
            entry.detail["channel"], entry.type.split(".")[1], entry.at, entry.detail["notice"]
        )
        for entry in in_order(timeline)
        if is_notification(entry)
    }
    return list(latest.values())

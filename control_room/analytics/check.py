"""Compares the analytics with the audit: both must say the same of every order and of all money."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from control_room.analytics.follow import Replayed, totals_of
from control_room.analytics.model import CAPTURED, ORDERS, REFUNDED
from control_room.analytics.store import AnalyticsStore
from control_room.operations.audit import AuditReport
from control_room.text import counted


class NotComparable(Exception):
    """The two look at different orders now; the message says why."""


def expect_whole(replayed: Replayed, report: AuditReport) -> None:
    """Raises `NotComparable` if events are gone from the stream that orders of the audit may have had."""
    if replayed.missing:
        raise NotComparable(f"{counted(replayed.missing, 'message')} went from the stream while it was read")
    if not replayed.first_offset:
        return
    pruned_before = datetime.fromisoformat(report.pruned_before).timestamp() if report.pruned_before else 0.0
    if replayed.first_at is None or replayed.first_at >= pruned_before:
        raise NotComparable(
            "the oldest events are gone from the stream, and the audit looks at all orders that are not pruned: "
            "EVENTS_KEPT_HOURS is less than RETAIN_DAYS"
        )


def expect_idle(report: AuditReport) -> None:
    """Raises `NotComparable` while orders are in flight."""
    if report.in_flight:
        raise NotComparable(f"{counted(report.in_flight, 'order')} are in flight; try again when they are final")


def differences(store: AnalyticsStore, report: AuditReport) -> list[str]:
    """A sentence for each figure on which they differ. Raises `NotComparable`, `AnalyticsUnavailable`."""
    expect_idle(report)
    return [
        f"{name}: the audit says {theirs:,}, the stream of events {ours:,}"
        for name, theirs, ours in _pairs(totals_of(store), store.statuses(), report)
        if theirs != ours
    ]


def _pairs(
    totals: Mapping[str, Any], statuses: Mapping[str, int], report: AuditReport
) -> Iterator[tuple[str, int, int]]:
    yield "orders", report.counts.get("orders", 0), totals.get(ORDERS, 0)
    theirs = dict(report.statuses)
    theirs["placed"] = theirs.get("placed", 0) + theirs.pop("stalled", 0)
    for status in sorted({*theirs, *statuses}):
        yield f"{status} orders", theirs.get(status, 0), statuses.get(status, 0)
    captured, refunded = totals.get(CAPTURED, {}), totals.get(REFUNDED, {})
    for currency in sorted({*report.money, *captured, *refunded}):
        money = report.money.get(currency, {})
        yield f"captured, in minor units of {currency}", money.get("charged", 0), captured.get(currency, 0)
        yield f"refunded, in minor units of {currency}", money.get("refunded", 0), refunded.get(currency, 0)

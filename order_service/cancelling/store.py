"""The SQL of cancellations: by the customer, and of orders that are not paid in time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, Row, bindparam, literal_column, select

from order_service import store
from order_service.orders import (
    CancellationRules,
    SweepDelays,
    TimelineEntry,
    cancellation,
    cancellation_in,
    cancelled,
    status_of,
)
from shared.persistence.transactions import is_repeated

_IS_UNPAID = "status IN ('placed', 'stalled')"
_INDEX = f"CREATE INDEX IF NOT EXISTS unpaid_orders ON orders (placed_at) WHERE {_IS_UNPAID}"
_LOCKED_ORDERS = store.WHOLE_ORDERS.order_by(store.orders.c.order_id).with_for_update()
_UNPAID_ORDERS = (
    select(store.orders)
    .where(literal_column(_IS_UNPAID), store.orders.c.placed_at < bindparam("placed_before"))
    .order_by(store.orders.c.placed_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)


class Cancelled(Enum):
    NOW = auto()
    EARLIER = auto()
    UNKNOWN_ORDER = auto()


@dataclass(frozen=True, slots=True)
class Refused:
    """The order can't be cancelled."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A request to cancel an order. `entry` and `traceparent` are for its event, should it be cancelled now."""

    order_id: str
    entry: TimelineEntry
    traceparent: str | None
    rules: CancellationRules
    sweep_delays: SweepDelays


def cancel(connection: Connection, requests: list[Cancellation]) -> list[Cancelled | Refused]:
    """Cancel each order once, and write the event of it, unless the rules refuse.

    The orders are locked until the commit, so that reports and other cancellations wait, in any replica.
    """
    known = store.lock_orders(connection, _LOCKED_ORDERS, {request.order_id for request in requests})
    timelines = store.timelines_of(connection, known)
    results: list[Cancelled | Refused] = []
    new: dict[str, tuple[TimelineEntry, str | None]] = {}
    for request in requests:
        is_new = request.order_id not in new
        result = _decide(request, known.get(request.order_id), timelines) if is_new else Cancelled.EARLIER
        if result is Cancelled.NOW:
            new[request.order_id] = request.entry, request.traceparent
        results.append(result)
    _write_cancellations(connection, known, timelines, new, requests[0].sweep_delays)
    if is_repeated(connection):  # after a commit whose outcome is unknown: the first run may have written it
        return [Cancelled.NOW if result is Cancelled.EARLIER else result for result in results]
    pairs = zip(requests, results, strict=True)
    store.count_duplicates(connection, [request.order_id for request, result in pairs if result is Cancelled.EARLIER])
    return results


def _decide(request: Cancellation, row: Row[Any] | None, timelines: store.Timelines) -> Cancelled | Refused:
    if row is None:
        return Cancelled.UNKNOWN_ORDER
    entries = timelines[request.order_id]
    if cancellation_in(entries):
        return Cancelled.EARLIER
    reason = request.rules.why_not(status_of(entries), row.placed_at, request.entry.at)
    return Refused(reason) if reason else Cancelled.NOW


@dataclass(frozen=True, slots=True)
class Unpaid:
    """Cancel at most `limit` orders that were placed before this time and are not paid yet."""

    placed_before: datetime
    limit: int
    sweep_delays: SweepDelays


def cancel_unpaid(connection: Connection, requests: list[Unpaid]) -> list[list[str]]:
    """For each request the ids of the orders that it has cancelled. Those that other replicas work on are left out."""
    return [_cancel_unpaid(connection, request) for request in requests]


def _cancel_unpaid(connection: Connection, request: Unpaid) -> list[str]:
    values = {"placed_before": request.placed_before, "limit": request.limit}
    known = {row.order_id: row for row in connection.execute(_UNPAID_ORDERS, values)}
    timelines = store.timelines_of(connection, known)
    new = {order_id: (cancellation("payment-timeout"), None) for order_id in known}
    _write_cancellations(connection, known, timelines, new, request.sweep_delays)
    return list(known)


def index_unpaid(connection: Connection, requests: list[None]) -> list[None]:
    """Create the index with which `cancel_unpaid` is fast. Without a payment timeout no order pays for it."""
    if connection.dialect.name == "postgresql":  # replicas that create it at the same time would fail
        connection.exec_driver_sql("LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE")
    connection.exec_driver_sql(_INDEX)
    return requests


def _write_cancellations(
    connection: Connection,
    known: Mapping[str, Row[Any]],
    timelines: store.Timelines,
    new: Mapping[str, tuple[TimelineEntry, str | None]],
    sweep_delays: SweepDelays,
) -> None:
    """Write the cancellations of these orders, and their events. `new`: each order's entry, and the event's trace."""
    rows = [store.append(timelines, order_id, entry) for order_id, (entry, _) in new.items()]
    store.outbox.add(
        connection,
        [
            cancelled(order_id, store.summary_of(known[order_id]), entry, traceparent=traceparent)
            for order_id, (entry, traceparent) in new.items()
        ],
    )
    store.write_entries(connection, known, timelines, rows, sweep_delays)

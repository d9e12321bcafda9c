"""The sweep's SQL: which open orders have had no event for too long, and when each is due again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, exists, or_, select, update

from order_service import store
from order_service.contract import CONTRACT, FINAL_STATUSES
from order_service.orders import (
    OrderStatus,
    Progress,
    SweepDelays,
    TimelineEntry,
    awaits,
    cancellation_in,
    cancelled,
    seems_lost,
)
from shared.events import OrderCancelled, OrderPlaced, OrderPlacedData
from shared.persistence import milestones
from shared.persistence.milestones import Milestone

CAUGHT_UP_AT = "caught_up_at"
"""The milestone of the restore whose open orders are on their way again."""

_POSTPONE = (
    update(store.orders)
    .where(store.orders.c.order_id == bindparam("id"))
    .values(sweeps=bindparam("count"), quiet_since=bindparam("quiet"))
)


_WAS_GIVEN_UP = exists().where(
    store.timeline.c.order_id == store.orders.c.order_id, store.timeline.c.type.startswith("notification.failed.")
)
_OPEN_AT_RESTORE = (
    select(store.orders.c.order_id)
    .where(
        store.orders.c.order_id > bindparam("after"),
        store.orders.c.updated_at < bindparam("restored_at"),
        or_(store.orders.c.quiet_since.is_not(None), store.orders.c.status == OrderStatus.STALLED, _WAS_GIVEN_UP),
    )
    .order_by(store.orders.c.order_id)
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Re-emit the events of at most `limit` open orders that have had no event for too long."""

    sweep_delays: SweepDelays
    limit: int


def sweep(connection: Connection, sweeps: list[Sweep]) -> list[list[str]]:
    """For each sweep, re-emit the events of the orders that seem lost; returns the orders' ids."""
    return [_sweep_once(connection, each, datetime.now(UTC)) for each in sweeps]


def _sweep_once(connection: Connection, sweep: Sweep, now: datetime) -> list[str]:
    delays = sweep.sweep_delays
    quiet, long_ago = store.orders.c.quiet_since, now - timedelta(seconds=delays.usual_seconds)
    query = select(store.orders).where(quiet < long_ago).order_by(quiet, store.orders.c.order_id)
    rows = connection.execute(query.limit(sweep.limit).with_for_update(skip_locked=True)).all()
    if not rows:
        return []
    timelines = store.timelines_of(connection, [row.order_id for row in rows])
    missing = {row.order_id: _missing(row, timelines[row.order_id]) for row in rows}
    seconds = {order_id: delays.seconds(queues) for order_id, queues in missing.items() if queues}
    lost = _lost(connection, [row for row in rows if row.order_id in seconds], timelines, seconds, now)
    store.outbox.add(connection, [_again(row, timelines[row.order_id]) for row in lost])
    lost_ids = [row.order_id for row in lost]
    sweeps = {row.order_id: row.sweeps for row in rows} | {row.order_id: row.sweeps + 1 for row in lost}
    _postpone(connection, missing, delays, sweeps, now)
    return lost_ids


def _missing(row: Row[Any], timeline: Sequence[TimelineEntry]) -> frozenset[str]:
    """The queues whose consumers have not reported on an order yet."""
    return awaits(OrderStatus(row.status), timeline, store.wanted_channels(row))


def _lost(
    connection: Connection,
    rows: Sequence[Row[Any]],
    timelines: store.Timelines,
    seconds: Mapping[str, float],
    now: datetime,
) -> Sequence[Row[Any]]:
    """The orders that a later one overtook longer ago than their delay in seconds.

    If no order was overtaken, all may be lost or may just wait: the last one's event is re-emitted to find out.
    """
    progress = {each: _progress(connection, now - timedelta(seconds=each)) for each in set(seconds.values())}
    lost = []
    for row in rows:
        last = cancellation_in(timelines[row.order_id])
        event_id = last.event_id if last else row.order_id
        if seems_lost(event_id, OrderStatus(row.status), progress[seconds[row.order_id]]):
            lost.append(row)
    return lost or rows[-1:]


def _progress(connection: Connection, long_ago: datetime) -> Progress:
    columns = store.orders.c
    newest = select(columns.order_id).where(columns.updated_at < long_ago).order_by(columns.order_id.desc()).limit(1)
    waits_for_charge = [OrderStatus.PLACED, OrderStatus.CANCELLING]
    return Progress(
        charged=connection.execute(newest.where(columns.status.not_in(waits_for_charge))).scalar(),
        notified=connection.execute(
            newest.where(columns.quiet_since.is_(None), columns.status.in_(FINAL_STATUSES))
        ).scalar(),
    )


def _postpone(
    connection: Connection,
    missing: Mapping[str, frozenset[str]],
    delays: SweepDelays,
    sweeps: Mapping[str, int],
    now: datetime,
) -> None:
    connection.execute(
        _POSTPONE,
        [
            {"id": order_id, "count": count, "quiet": store.quiet_since(now, missing[order_id], delays, sweeps=count)}
            for order_id, count in sweeps.items()
        ],
    )


def _again(row: Row[Any], timeline: Sequence[TimelineEntry]) -> OrderPlaced | OrderCancelled:
    """The last event that this service has published about an order, under its own id."""
    summary = store.summary_of(row)
    if entry := cancellation_in(timeline):
        return cancelled(row.order_id, summary, entry, again=True)
    data = OrderPlacedData(order=summary, payment_token=row.payment_token)
    return OrderPlaced.about(
        row.order_id, id=row.order_id, source=CONTRACT.name, time=row.placed_at, again=True, data=data
    )


class Page(NamedTuple):
    """At most `limit` orders after one, of those that a restore at this moment has brought back."""

    after: str
    restored_at: datetime
    limit: int


def not_caught_up(connection: Connection, rows: list[None]) -> list[datetime | None]:
    """When the database was restored; None if it never was, or `caught_up` was called since."""
    known = milestones.read(connection, [None])[0]
    restored_at = known.get(milestones.RESTORED_AT)
    return [None if known.get(CAUGHT_UP_AT) == restored_at else restored_at for _ in rows]


def open_at_restore(connection: Connection, pages: list[Page]) -> list[list[str]]:
    """The ids of orders that wait for a report, are stalled, or have a notice that was given up."""
    return [list(connection.execute(_OPEN_AT_RESTORE, page._asdict()).scalars()) for page in pages]


def re_emit(connection: Connection, batches: list[list[str]]) -> list[None]:
    """Re-emit the last event about each order."""
    order_ids = [order_id for batch in batches for order_id in batch]
    rows = connection.execute(store.WHOLE_ORDERS, {"order_ids": order_ids}).all()
    timelines = store.timelines_of(connection, order_ids)
    store.outbox.add(connection, [_again(row, timelines[row.order_id]) for row in rows])
    return [None for _ in batches]


def caught_up(connection: Connection, restores: list[datetime]) -> list[None]:
    """Since the restore at this moment the events of all open orders have been re-emitted."""
    return milestones.reach(connection, [Milestone(CAUGHT_UP_AT, moment) for moment in restores])

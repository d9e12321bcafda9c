"""The sweep's SQL: which open orders have had no event for too long, and when each is due again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from order_service import store
from order_service.contract import CONTRACT
from order_service.orders import OrderStatus, Progress, SweepDelays, awaits, seems_lost
from shared.events import OrderPlaced, OrderPlacedData, OrderSummary

_POSTPONE = (
    update(store.orders)
    .where(store.orders.c.order_id == bindparam("id"))
    .values(sweeps=bindparam("count"), quiet_since=bindparam("quiet"))
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
    missing = _missing(connection, rows)
    seconds = {order_id: delays.seconds(queues) for order_id, queues in missing.items() if queues}
    lost = _lost(connection, [row for row in rows if row.order_id in seconds], seconds, now)
    store.outbox.add(connection, [_placed_again(row) for row in lost])
    lost_ids = [row.order_id for row in lost]
    sweeps = {row.order_id: row.sweeps for row in rows} | {row.order_id: row.sweeps + 1 for row in lost}
    _postpone(connection, missing, delays, sweeps, now)
    return lost_ids


def _missing(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, frozenset[str]]:
    """For each order, the queues whose consumers have not reported on it yet."""
    timelines = store.timelines_of(connection, [row.order_id for row in rows])
    return {
        row.order_id: awaits(OrderStatus(row.status), timelines[row.order_id], wants_sms=row.wants_sms) for row in rows
    }


def _lost(
    connection: Connection, rows: Sequence[Row[Any]], seconds: Mapping[str, float], now: datetime
) -> Sequence[Row[Any]]:
    """The orders that a later one overtook longer ago than their delay in seconds.

    If no order was overtaken, all may be lost or may just wait: the last one's event is re-emitted to find out.
    """
    progress = {each: _progress(connection, now - timedelta(seconds=each)) for each in set(seconds.values())}
    lost = [row for row in rows if seems_lost(row.order_id, OrderStatus(row.status), progress[seconds[row.order_id]])]
    return lost or rows[-1:]


def _progress(connection: Connection, long_ago: datetime) -> Progress:
    columns = store.orders.c
    newest = select(columns.order_id).where(columns.updated_at < long_ago).order_by(columns.order_id.desc()).limit(1)
    ends = [OrderStatus.CONFIRMED, OrderStatus.DECLINED]
    return Progress(
        charged=connection.execute(newest.where(columns.status != OrderStatus.PLACED)).scalar(),
        notified=connection.execute(newest.where(columns.quiet_since.is_(None), columns.status.in_(ends))).scalar(),
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


def _placed_again(row: Row[Any]) -> OrderPlaced:
    data = OrderPlacedData(order=OrderSummary.model_validate(row.summary), payment_token=row.payment_token)
    return OrderPlaced.about(
        row.order_id, id=row.order_id, source=CONTRACT.name, time=row.placed_at, again=True, data=data
    )

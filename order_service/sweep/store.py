"""The sweep's SQL: which open orders have had no event for too long, and when the sweep looks at them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, select, update

from order_service import store
from order_service.orders import Status, SweepDelays, Turns, awaits, seems_lost
from shared.events import OrderPlaced, OrderPlacedData, OrderSummary


@dataclass(frozen=True, slots=True)
class Sweep:
    """Re-emit the events of at most `limit` open orders that have had no event for too long."""

    sweep_delays: SweepDelays
    limit: int


def sweep(connection: Connection, sweeps: list[Sweep]) -> list[list[str]]:
    """For each sweep: emit the events of the orders that seem lost once more, through the outbox; their ids."""
    return [_sweep_once(connection, wanted, datetime.now(UTC)) for wanted in sweeps]


def _sweep_once(connection: Connection, wanted: Sweep, now: datetime) -> list[str]:
    quiet, long_ago = store.orders.c.quiet_since, now - timedelta(seconds=wanted.sweep_delays.usual_seconds)
    query = select(store.orders).where(quiet < long_ago).order_by(quiet, store.orders.c.order_id)
    rows = connection.execute(query.limit(wanted.limit).with_for_update(skip_locked=True)).all()
    if not rows:
        return []
    missing = _missing(connection, rows)
    lost = _lost(connection, [row for row in rows if missing[row.order_id]], missing, wanted.sweep_delays, now)
    store.outbox.add(connection, [_placed_again(row) for row in lost])
    _put_off(connection, rows, {row.order_id for row in lost}, missing, wanted.sweep_delays, now)
    return [row.order_id for row in lost]


def _missing(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, frozenset[str]]:
    """For each order, the queues whose consumers have not reported on it yet."""
    timelines = store.timelines_of(connection, [row.order_id for row in rows])
    return {row.order_id: awaits(Status(row.status), timelines[row.order_id], wants_sms=row.wants_sms) for row in rows}


def _lost(
    connection: Connection,
    rows: Sequence[Row[Any]],
    missing: Mapping[str, frozenset[str]],
    sweep_delays: SweepDelays,
    now: datetime,
) -> Sequence[Row[Any]]:
    """The orders that a later one has overtaken for longer than the delay of the queues that are missing.

    Where no order has been overtaken, all may be lost or merely wait: the last one's event is re-emitted to find out.
    """
    seconds = {row.order_id: sweep_delays.seconds(missing[row.order_id]) for row in rows}
    turns = {each: _turns(connection, now - timedelta(seconds=each)) for each in set(seconds.values())}
    return [row for row in rows if seems_lost(row.order_id, Status(row.status), turns[seconds[row.order_id]])] or rows[
        -1:
    ]


def _turns(connection: Connection, long_ago: datetime) -> Turns:
    columns = store.orders.c
    newest = select(columns.order_id).where(columns.updated_at < long_ago).order_by(columns.order_id.desc()).limit(1)
    is_told = and_(columns.quiet_since.is_(None), columns.status.in_([Status.CONFIRMED, Status.DECLINED]))
    return Turns(
        answered=connection.execute(newest.where(columns.status != Status.PLACED)).scalar(),
        told=connection.execute(newest.where(is_told)).scalar(),
    )


def _placed_again(row: Row[Any]) -> OrderPlaced:
    data = OrderPlacedData(order=OrderSummary.model_validate(row.summary), payment_token=row.payment_token)
    return OrderPlaced.about(
        row.order_id, id=row.order_id, source="order_service", time=row.placed_at, again=True, data=data
    )


def _put_off(
    connection: Connection,
    rows: Sequence[Row[Any]],
    swept: set[str],
    missing: Mapping[str, frozenset[str]],
    sweep_delays: SweepDelays,
    now: datetime,
) -> None:
    values: list[dict[str, Any]] = [
        {
            "id": row.order_id,
            "count": (count := row.sweeps + (row.order_id in swept)),
            "quiet": store.quiet_since(now, missing[row.order_id], sweep_delays, sweeps=count),
        }
        for row in rows
    ]
    if values:
        change = update(store.orders).where(store.orders.c.order_id == bindparam("id"))
        connection.execute(change.values(sweeps=bindparam("count"), quiet_since=bindparam("quiet")), values)

"""The tables of orders and their SQL: plain functions over lists, which the batcher runs in one transaction."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    bindparam,
    false,
    select,
    update,
)
from sqlalchemy.event import listen

from order_service.contract import CONTRACT
from order_service.orders import (
    OPTIONAL_CHANNELS,
    PLACED_TYPE,
    Order,
    OrderStatus,
    SweepDelays,
    TimelineEntry,
    awaits,
    status_of,
)
from shared.events import OrderPlaced, OrderSummary
from shared.persistence.bulk import BulkInsert, BulkUpdate, skip_existing
from shared.persistence.one_of import one_of
from shared.persistence.outbox import Outbox
from shared.persistence.pages import ReadPages
from shared.persistence.transactions import is_repeated
from shared.persistence.utc import UtcDateTime

MAX_DOUBLINGS = 6

Timelines = dict[str, list[TimelineEntry]]
"""By order id."""

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

orders = Table(
    "orders",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("payment_token", String, nullable=False),
    Column("wants_sms", Boolean, nullable=False),
    Column("wants_push", Boolean, nullable=False, server_default=false()),
    Column("placed_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("sweeps", Integer, nullable=False, default=0),
    # While events are missing: the time of the last event. The sweep finds the order once this is older than the usual
    # delay, so a longer delay (a slow queue, an earlier sweep) is added to this time, which may then be in the future.
    Column("quiet_since", UtcDateTime),
)
# As text: SQLAlchemy's own partial index would import the dialects of every database, which makes each start slower.
OPEN_ORDERS = "CREATE INDEX open_orders ON orders (quiet_since) WHERE quiet_since IS NOT NULL"
listen(orders, "after_create", DDL(OPEN_ORDERS))  # type: ignore[no-untyped-call]

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("order_id", String, nullable=False),
    Index("idempotency_key_of_order", "order_id"),  # to delete a key together with its order
)

# The events of the other services, and the order's cancellation. The event's id is the primary key, so that a second
# delivery finds it here. The first entry of each timeline, `order.placed.v1`, is not in here: it is the order's row.
timeline = Table(
    "timeline",
    metadata,
    Column("event_id", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("order_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("timeline_of_order", "order_id", "position"),
)

# How many requests and events about an order arrived again and changed nothing.
duplicates = Table(
    "duplicates",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("times", Integer, nullable=False),
)

# Built once: building a statement costs twice as much as running it.
_KEYS = select(idempotency_keys).where(one_of(idempotency_keys.c.key, "keys"))
WHOLE_ORDERS = select(orders).where(one_of(orders.c.order_id, "order_ids"))
_LOCKED_ORDERS = (
    select(orders.c.order_id, orders.c.status, orders.c.wants_sms, orders.c.wants_push, orders.c.quiet_since)
    .where(one_of(orders.c.order_id, "order_ids"))
    .order_by(orders.c.order_id)
    .with_for_update()
)
_TIMELINES = (
    select(timeline)
    .where(one_of(timeline.c.order_id, "order_ids"))
    .order_by(timeline.c.order_id, timeline.c.position, timeline.c.event_id)
)
_DUPLICATES = select(duplicates).where(one_of(duplicates.c.order_id, "order_ids"))
_INSERT_ORDERS = BulkInsert(orders)
_UPDATE_ORDERS = BulkUpdate(orders, "status", "updated_at", "quiet_since")
_INSERT_TIMELINE = BulkInsert(timeline)
_CLAIM_KEYS = BulkInsert(idempotency_keys, skip_existing)
_NEW_DUPLICATES = BulkInsert(duplicates, skip_existing)


@dataclass(frozen=True, slots=True)
class Placement:
    """A new order, its event, and the client's idempotency key, if it sent one."""

    event: OrderPlaced
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """The order of a placement: the new one, or, for a known idempotency key, the earlier one."""

    order_id: str
    fingerprint: str


def place(connection: Connection, placements: list[Placement]) -> list[Placed]:
    """Write each order, its event and its key. For a known key, write nothing and return its first order.

    After a commit whose outcome is unknown this runs again, and then leaves out the orders that are there.
    """
    first = _claim_keys(connection, [placement for placement in placements if placement.idempotency_key])
    results = [
        first.get(placement.idempotency_key or "", Placed(placement.event.subject, placement.fingerprint))
        for placement in placements
    ]
    pairs = list(zip(placements, results, strict=True))
    new = [placement for placement, placed in pairs if placed.order_id == placement.event.subject]
    if is_repeated(connection):
        new = _not_there(connection, new)
    if new:
        _INSERT_ORDERS.run(connection, [_order_values(placement) for placement in new])
        outbox.add(connection, [placement.event for placement in new])
    repeated = [placed.order_id for placement, placed in pairs if _is_replay(placement, placed)]
    count_duplicates(connection, repeated)
    return results


def _is_replay(placement: Placement, placed: Placed) -> bool:
    """Whether the same request was sent again."""
    return placed.order_id != placement.event.subject and placed.fingerprint == placement.fingerprint


def _not_there(connection: Connection, placements: list[Placement]) -> list[Placement]:
    rows = connection.execute(WHOLE_ORDERS, {"order_ids": [placement.event.subject for placement in placements]})
    there = {row.order_id for row in rows}
    return [placement for placement in placements if placement.event.subject not in there]


def _claim_keys(connection: Connection, placements: list[Placement]) -> dict[str, Placed]:
    """The order that holds each key, once each placement has tried to take its key."""
    if not placements:
        return {}
    keys = [
        {"key": each.idempotency_key, "fingerprint": each.fingerprint, "order_id": each.event.subject}
        for each in placements
    ]
    _CLAIM_KEYS.run(connection, keys)
    rows = connection.execute(_KEYS, {"keys": {each.idempotency_key for each in placements}})
    return {row.key: Placed(row.order_id, row.fingerprint) for row in rows}


def _order_values(placement: Placement) -> dict[str, Any]:
    event = placement.event
    return {
        "order_id": event.subject,
        "status": OrderStatus.PLACED,
        "summary": event.data.order,
        "payment_token": event.data.payment_token,
        "wants_sms": event.data.order.customer_phone is not None,
        "wants_push": event.data.order.customer_push is not None,
        "placed_at": event.time,
        "updated_at": event.time,
        "sweeps": 0,
        "quiet_since": event.time,
    }


class Tracked(Enum):
    RECORDED = auto()
    DUPLICATE = auto()
    UNKNOWN_ORDER = auto()


@dataclass(frozen=True, slots=True)
class Report:
    """An event of another service about an order."""

    order_id: str
    entry: TimelineEntry
    sweep_delays: SweepDelays


def track(connection: Connection, reports: list[Report]) -> list[Tracked]:
    """Add each event to its order's timeline, once, and update the order's status."""
    known = lock_orders(connection, _LOCKED_ORDERS, {report.order_id for report in reports})
    timelines = timelines_of(connection, known)
    seen = {entry.event_id for entries in timelines.values() for entry in entries}
    results, new = [], []
    for report in reports:
        if report.order_id not in known:
            results.append(Tracked.UNKNOWN_ORDER)
        elif report.entry.event_id in seen:
            # A repeated run, after a commit whose outcome is unknown, finds the rows of the first one.
            results.append(Tracked.RECORDED if is_repeated(connection) else Tracked.DUPLICATE)
        else:
            results.append(Tracked.RECORDED)
            seen.add(report.entry.event_id)
            new.append(append(timelines, report.order_id, report.entry))
    write_entries(connection, known, timelines, new, reports[0].sweep_delays)
    pairs = zip(reports, results, strict=True)
    count_duplicates(connection, [report.order_id for report, result in pairs if result is Tracked.DUPLICATE])
    return results


def append(timelines: Timelines, order_id: str, entry: TimelineEntry) -> dict[str, Any]:
    """Add an entry to its order's timeline; returns its row."""
    position = len(timelines[order_id])
    timelines[order_id].append(entry)
    return {"order_id": order_id, "position": position, **vars(entry)}


def write_entries(
    connection: Connection,
    known: Mapping[str, Any],
    timelines: Timelines,
    new: Sequence[Mapping[str, Any]],
    sweep_delays: SweepDelays,
) -> None:
    """Write these new rows of timelines, and what follows from them for their orders."""
    if new:
        _INSERT_TIMELINE.run(connection, new)
    _update_orders(connection, known, timelines, Counter(row["order_id"] for row in new), sweep_delays)


def count_duplicates(connection: Connection, order_ids: Iterable[str]) -> None:
    counts = sorted(Counter(order_ids).items())  # sorted: replicas that lock rows in one order can't deadlock
    if counts:
        new = [{"order_id": order_id, "times": 0} for order_id, _ in counts]
        _NEW_DUPLICATES.run(connection, new)
        change = update(duplicates).where(duplicates.c.order_id == bindparam("id"))
        values = {"times": duplicates.c.times + bindparam("more")}
        connection.execute(change.values(values), [{"id": order_id, "more": count} for order_id, count in counts])


def lock_orders(connection: Connection, query: Any, order_ids: set[str]) -> dict[str, Any]:
    """The state of each order that exists. PostgreSQL locks the rows, so that replicas take turns at an order."""
    return {row.order_id: row for row in connection.execute(query, {"order_ids": order_ids})}


def timelines_of(connection: Connection, order_ids: Iterable[str]) -> Timelines:
    """The events about each order after its placement, in the order of their arrival."""
    found: Timelines = defaultdict(list)
    for row in connection.execute(_TIMELINES, {"order_ids": list(order_ids)}):
        found[row.order_id].append(TimelineEntry(row.event_id, row.type, row.at, row.detail))
    return found


def _update_orders(
    connection: Connection,
    known: Mapping[str, Any],
    timelines: Timelines,
    added: Mapping[str, int],
    sweep_delays: SweepDelays,
) -> None:
    """Update each order's status and its time for the sweep. `added`: the number of new entries of its timeline."""
    now = datetime.now(UTC)
    changed = []
    for order_id, entries in timelines.items():
        before, status = known[order_id], status_of(entries)
        missing = awaits(status, entries, wanted_channels(before))
        earlier = entries[: len(entries) - added[order_id]]
        was_missing = awaits(OrderStatus(before.status), earlier, wanted_channels(before))
        if status != before.status or sweep_delays.seconds(missing) != sweep_delays.seconds(was_missing):
            quiet = quiet_since(now, missing, sweep_delays)
            changed.append({"order_id": order_id, "status": status, "updated_at": now, "quiet_since": quiet})
    if changed:
        _UPDATE_ORDERS.run(connection, changed)


def wanted_channels(row: Row[Any]) -> list[str]:
    """The optional channels that the customer of an order has chosen."""
    return [channel for channel in OPTIONAL_CHANNELS if getattr(row, f"wants_{channel}")]


def quiet_since(now: datetime, missing: Collection[str], sweep_delays: SweepDelays, sweeps: int = 0) -> datetime | None:
    """The value of `quiet_since` with which the sweep finds the order after its delay. Each sweep doubles the delay."""
    if not missing:
        return None
    wait_seconds = sweep_delays.seconds(missing) * 2 ** min(sweeps, MAX_DOUBLINGS)
    return now + timedelta(seconds=wait_seconds - sweep_delays.usual_seconds)


def get(connection: Connection, order_ids: list[str]) -> list[Order | None]:
    """Each order with its timeline, or None."""
    ids = {"order_ids": set(order_ids)}
    rows = connection.execute(WHOLE_ORDERS, ids)
    timelines = timelines_of(connection, order_ids)
    counts = {row.order_id: row.times for row in connection.execute(_DUPLICATES, ids)}
    found = {row.order_id: _order(row, timelines[row.order_id], counts.get(row.order_id, 0)) for row in rows}
    return [found.get(order_id) for order_id in order_ids]


def _order(row: Row[Any], entries: Sequence[TimelineEntry], duplicates: int) -> Order:
    # The event `order.placed.v1` has the order's own id.
    first = TimelineEntry(row.order_id, PLACED_TYPE, row.placed_at, {})
    return Order(row.order_id, OrderStatus(row.status), summary_of(row), row.placed_at, [first, *entries], duplicates)


def summary_of(row: Row[Any]) -> OrderSummary:
    return OrderSummary.model_validate(row.summary)


newest_first = ReadPages(orders, orders.c.order_id, newest_first=True)
pages = ReadPages(orders, orders.c.order_id)

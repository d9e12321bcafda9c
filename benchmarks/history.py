"""Databases that are not empty: a past of finished orders, and a backlog of orders that wait.

The tables are those that the services define. A million orders are eight million rows, so they are written past
SQLAlchemy, in the form in which it keeps times and JSON in SQLite; the backlog is placed by the service's own function.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, Table, create_engine, insert
from sqlalchemy.dialects import sqlite

from benchmarks.load.order import SUMMARY
from notification_service import store as notification_store
from order_service import store as order_store
from payment_service import store as payment_store
from payment_service.gateways.simulated import store as gateway_store
from shared.events import OrderPlaced, OrderPlacedData
from shared.ids import new_id
from shared.persistence.database import Database

Row = dict[str, Any]

FIRST_PLACED_AT = datetime(2026, 1, 1, tzinfo=UTC)
BACKLOG_GROUP = 500
NAMED = sqlite.dialect(paramstyle="named")


def write_past(directory: Path, orders: int, *, with_keys: bool = False) -> None:
    """The four databases of Order Rail with so many orders in them, each placed, paid and notified of long ago.

    `with_keys`: each was placed with an idempotency key.
    """
    directory.mkdir(parents=True)
    order, gateway = order_store.metadata, gateway_store.metadata
    _fill(directory / "order_service.db", order, order_store.orders, _each(_order, orders))
    _fill(directory / "order_service.db", order, order_store.timeline, _each(_timeline, orders))
    if with_keys:
        _fill(directory / "order_service.db", order, order_store.idempotency_keys, _each(_key, orders))
    _fill(directory / "payment_service.db", payment_store.metadata, payment_store.payments, _each(_payment, orders))
    _fill(directory / "gateway.db", gateway, gateway_store.ledger, _each(_charge, orders))
    notifications = notification_store.notifications
    _fill(directory / "notification_service.db", notification_store.metadata, notifications, _each(_notices, orders))


def place_backlog(url: str, orders: int) -> None:
    """So many orders, placed and not yet published: they wait in the outbox."""
    engine = Database(url, order_store.metadata, name="order_service").engine
    order_store.metadata.create_all(engine)
    for first in range(0, orders, BACKLOG_GROUP):
        with engine.begin() as connection:
            order_store.place(connection, [_placement() for _ in range(min(BACKLOG_GROUP, orders - first))])
    engine.dispose()


def _placement() -> order_store.Placement:
    data = OrderPlacedData(order=SUMMARY, payment_token="tok_visa")
    return order_store.Placement(
        OrderPlaced.about(order_id := new_id(), id=order_id, source="order_service", data=data)
    )


def _fill(database: Path, metadata: MetaData, table: Table, rows: Iterator[Row]) -> None:
    engine = create_engine(f"sqlite:///{database}")
    metadata.create_all(engine)
    engine.dispose()
    first = next(rows)
    statement = str(insert(table).compile(dialect=NAMED, column_keys=list(first)))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # the service sets it again when it opens the file
        connection.execute(statement, first)
        connection.executemany(statement, rows)
        connection.commit()


def _each(rows_of: Callable[[int], list[Row]], orders: int) -> Iterator[Row]:
    return (row for number in range(orders) for row in rows_of(number))


def _order(number: int) -> list[Row]:
    at = _placed_at(number)
    return [
        {
            "order_id": past_order_id(number), "status": "confirmed", "summary": _SUMMARY, "payment_token": "tok_visa",
            "wants_sms": 0, "wants_push": 0, "placed_at": at, "updated_at": at, "sweeps": 0,
        }
    ]  # fmt: skip


def _key(number: int) -> list[Row]:
    return [{"key": _id(number, 8), "fingerprint": "0" * 64, "order_id": past_order_id(number)}]


def _timeline(number: int) -> list[Row]:
    about = {"order_id": past_order_id(number), "at": _placed_at(number)}
    return [
        {"event_id": _id(number, position + 1), "position": position, **about, "type": event_type, "detail": detail}
        for position, (event_type, detail) in enumerate(_REPORTS)
    ]


def _payment(number: int) -> list[Row]:
    return [
        {
            "order_id": past_order_id(number), "status": "succeeded", **SUMMARY.total.model_dump(), "attempts": 1,
            "at": _placed_at(number), "event_id": _id(number, 1), "charge_id": _id(number, 9),
        }
    ]  # fmt: skip


def _charge(number: int) -> list[Row]:
    return [
        {
            "idempotency_key": past_order_id(number), "charge_id": _id(number, 9), "order_id": past_order_id(number),
            "type": "charge", **SUMMARY.total.model_dump(), "at": _placed_at(number),
        }
    ]  # fmt: skip


def _notices(number: int) -> list[Row]:
    order_id = past_order_id(number)
    return [
        {
            "idempotency_key": f"{order_id}/{channel}/{notice}", "order_id": order_id, "channel": channel,
            "notice": notice, "status": "delivered", "attempts": 1, "at": _placed_at(number),
            "event_id": _id(number, position),
        }
        for position, (channel, notice) in enumerate(_NOTICES, start=2)
    ]  # fmt: skip


_SUMMARY = SUMMARY.model_dump_json()
_NOTICES = (("email", "receipt"), ("restaurant", "kitchen_ticket"))
_REPORTS = (
    ("payment.succeeded.v1", json.dumps({"amount": SUMMARY.total.model_dump(), "charge_id": new_id(), "attempts": 1})),
    *(
        ("notification.delivered.v1", json.dumps({"channel": channel, "notice": notice, "attempts": 1}))
        for channel, notice in _NOTICES
    ),
)


def past_order_id(number: int) -> str:
    """The id of an order of the past, from 0."""
    return _id(number, 0)


def _id(number: int, kind: int) -> str:
    """A UUIDv7 of the moment at which the order was placed; each kind has one of its own."""
    moment = f"{int(FIRST_PLACED_AT.timestamp() * 1000) + number:012x}"
    return f"{moment[:8]}-{moment[8:]}-7{kind:03x}-8000-{number:012x}"


def _placed_at(number: int) -> str:
    return (FIRST_PLACED_AT + timedelta(milliseconds=number)).strftime("%Y-%m-%d %H:%M:%S.%f")

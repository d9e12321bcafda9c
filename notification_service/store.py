"""The table of notifications, and the service's only SQL: plain functions over lists, run by the group commit."""

from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Row, String, Table, bindparam, select

from notification_service.contract import CONTRACT
from notification_service.notifications import Notification, NotificationStatus
from shared.effects import Recording, Records
from shared.events import Event
from shared.persistence.database import UtcDateTime
from shared.persistence.outbox import Outbox
from shared.persistence.pages import ReadPages
from shared.persistence.record_once import record_once

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

notifications = Table(
    "notifications",
    metadata,
    Column("idempotency_key", String, primary_key=True),
    Column("order_id", String, nullable=False, index=True),
    Column("channel", String, nullable=False),
    Column("notice", String, nullable=False),
    Column("status", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event_id", String, nullable=False),
    Column("error", String),
)


# Built once, like every statement that each order needs: building it costs twice as much as running it.
_BY_KEY = select(notifications).where(notifications.c.idempotency_key.in_(bindparam("keys", expanding=True)))


def record(connection: Connection, recordings: list[Recording[Notification]]) -> list[bool]:
    """Write each notification with its event, unless it was delivered already; for each, whether it was written."""
    columns = notifications.columns.keys()
    values = [{column: getattr(recording.record, column) for column in columns} for recording in recordings]
    written = record_once(connection, notifications, values, provisional=NotificationStatus.FAILED)
    outbox.add(connection, [each.event for each, is_new in zip(recordings, written, strict=True) if is_new])
    return written


def re_emit(connection: Connection, events: list[Event]) -> list[None]:
    """Emit events that were emitted before."""
    outbox.add(connection, events)
    return [None for _ in events]


def get(connection: Connection, keys: list[str]) -> list[Notification | None]:
    """The notification of each idempotency key, or None."""
    rows = connection.execute(_BY_KEY, {"keys": set(keys)})
    found = {row.idempotency_key: _notification(row) for row in rows}
    return [found.get(key) for key in keys]


def of_orders(connection: Connection, order_ids: list[str]) -> list[list[Notification]]:
    """Each order's notifications."""
    columns = notifications.c
    query = select(notifications).where(columns.order_id.in_(set(order_ids))).order_by(columns.idempotency_key)
    rows = [_notification(row) for row in connection.execute(query)]
    return [[row for row in rows if row.order_id == order_id] for order_id in order_ids]


pages = ReadPages(notifications, notifications.c.idempotency_key)


def _notification(row: Row[Any]) -> Notification:
    return Notification(
        row.idempotency_key,
        row.order_id,
        row.channel,
        row.notice,
        NotificationStatus(row.status),
        row.attempts,
        row.at,
        row.event_id,
        row.error,
    )


records = Records(
    get, record, re_emit, is_final=lambda notification: notification.status is NotificationStatus.DELIVERED
)

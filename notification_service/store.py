"""The table of notifications."""

from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Row, String, Table, select

from notification_service.contract import CONTRACT
from notification_service.notifications import Notification, NotificationStatus, later_keys
from shared.persistence.keyed import KeyedStore
from shared.persistence.outbox import Outbox
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

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


def _notification(row: Row[Any]) -> Notification:
    return Notification(**{**row._asdict(), "status": NotificationStatus(row.status)})


records = KeyedStore(
    notifications,
    outbox,
    to_row=vars,
    from_row=_notification,
    replaces={NotificationStatus.DELIVERED: {NotificationStatus.FAILED}, NotificationStatus.FAILED: ()},
    superseded_by=later_keys,
)
prune = Prune(notifications.c.idempotency_key)


def of_orders(connection: Connection, order_ids: list[str]) -> list[list[Notification]]:
    """Each order's notifications."""
    columns = notifications.c
    query = select(notifications).where(columns.order_id.in_(set(order_ids))).order_by(columns.idempotency_key)
    rows = [_notification(row) for row in connection.execute(query)]
    return [[row for row in rows if row.order_id == order_id] for order_id in order_ids]

"""The table of payments, and the service's only SQL: plain functions over lists, run by the group commit."""

from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Row, String, Table, bindparam, select

from payment_service.contract import CONTRACT
from payment_service.payments import Payment, PaymentStatus
from shared.effects import Recording, Records
from shared.events import Event, Money
from shared.persistence.database import UtcDateTime
from shared.persistence.outbox import Outbox
from shared.persistence.pages import ReadPages
from shared.persistence.record_once import record_once

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

# The order id is the idempotency key of its charge: the second delivery of `order.placed` finds the payment here.
payments = Table(
    "payments",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("status", String, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event_id", String, nullable=False),
    Column("charge_id", String),
    Column("detail", String),
)


# Built once, like every statement that each order needs: building it costs twice as much as running it.
_OF_ORDERS = select(payments).where(payments.c.order_id.in_(bindparam("order_ids", expanding=True)))


def record(connection: Connection, recordings: list[Recording[Payment]]) -> list[bool]:
    """Write each payment with its event, unless the order has one already; for each, whether it was written."""
    values = [_values(recording.record) for recording in recordings]
    written = record_once(connection, payments, values, provisional=PaymentStatus.STALLED)
    outbox.add(connection, [each.event for each, is_new in zip(recordings, written, strict=True) if is_new])
    return written


def _values(payment: Payment) -> dict[str, Any]:
    return {
        "order_id": payment.order_id,
        "status": payment.status,
        "amount_minor": payment.amount.amount_minor,
        "currency": payment.amount.currency,
        "attempts": payment.attempts,
        "at": payment.at,
        "event_id": payment.event_id,
        "charge_id": payment.charge_id,
        "detail": payment.detail,
    }


def re_emit(connection: Connection, events: list[Event]) -> list[None]:
    """Emit events that were emitted before."""
    outbox.add(connection, events)
    return [None for _ in events]


def get(connection: Connection, order_ids: list[str]) -> list[Payment | None]:
    """Each order's payment, or None."""
    rows = connection.execute(_OF_ORDERS, {"order_ids": set(order_ids)})
    found = {row.order_id: _payment(row) for row in rows}
    return [found.get(order_id) for order_id in order_ids]


pages = ReadPages(payments, payments.c.order_id)


def _payment(row: Row[Any]) -> Payment:
    amount = Money(amount_minor=row.amount_minor, currency=row.currency)
    return Payment(
        row.order_id, PaymentStatus(row.status), amount, row.attempts, row.at, row.event_id, row.charge_id, row.detail
    )


records = Records(get, record, re_emit, is_final=lambda payment: payment.status is not PaymentStatus.STALLED)

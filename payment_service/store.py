"""The table of payments."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Row, String, Table

from payment_service.contract import CONTRACT
from payment_service.payments import Payment, PaymentStatus
from shared.events import Money
from shared.persistence.database import UtcDateTime
from shared.persistence.keyed import KeyedStore
from shared.persistence.outbox import Outbox

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

# The order id is the idempotency key of the charge: the second delivery of `order.placed.v1` finds the payment here.
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


def _payment(row: Row[Any]) -> Payment:
    amount = Money(amount_minor=row.amount_minor, currency=row.currency)
    return Payment(
        row.order_id, PaymentStatus(row.status), amount, row.attempts, row.at, row.event_id, row.charge_id, row.detail
    )


records = KeyedStore(payments, outbox, to_row=_values, from_row=_payment, provisional=PaymentStatus.STALLED)

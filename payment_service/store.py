"""The table of payments."""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Row, String, Table

from payment_service.contract import CONTRACT
from payment_service.payments import REPLACES, Payment, PaymentStatus
from shared.persistence.keyed import KeyedStore
from shared.persistence.outbox import Outbox
from shared.persistence.prune import Prune
from shared.persistence.utc import UtcDateTime

metadata = MetaData()
outbox = Outbox(metadata, CONTRACT.exchange)

# The order id is the idempotency key of the charge: the second delivery of `order.placed.v1` finds the payment here.
# A cancellation replaces the row.
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
    Column("refund_id", String),
    Column("detail", String),
)


def _payment(row: Row[Any]) -> Payment:
    return Payment(**{**row._asdict(), "status": PaymentStatus(row.status)})


records = KeyedStore(payments, outbox, to_row=vars, from_row=_payment, replaces=REPLACES)
prune = Prune(payments.c.order_id)

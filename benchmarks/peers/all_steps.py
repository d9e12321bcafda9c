"""All that Order Rail does for an order, for the peers that do the same work.

8 deliveries an order, as in Order Rail: the charge; its payment for four channels and for the order service; and the
order service's of the two notices that are sent, since nobody left an address for text and push messages.

The order and its outbox row are one commit, and a relay publishes the row. The workers need no outbox: they publish
before they acknowledge, so that after a crash in between the delivery comes again, and the same event with the same id
is published again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from benchmarks.peers.shop import (
    ChargeRecord,
    NoticeRecord,
    OrderRecord,
    OutboxRecord,
    PaymentRecord,
    PlacedOrder,
    TimelineRecord,
    add_order,
    engine,
    insert_once,
)
from order_service.orders import OrderRequest, TimelineEntry, status_of
from shared.events import OrderSummary
from shared.ids import new_id

RELAY_BATCH = 100
RELAY_POLL_SECONDS = 0.01
"""How long a relay rests that found no row. It must not be what an order's latency consists of."""

NOTICES = {"email": "receipt", "sms": "receipt", "push": "receipt", "restaurant": "kitchen_ticket"}
"""The kind of each channel's notice."""


class Report(BaseModel):
    """The message of an event that the order service keeps in the order's timeline."""

    event_id: str
    order_id: str
    type: str
    at: float
    detail: dict[str, Any]


class Paid(Report):
    """The message that an order is paid."""

    order: OrderSummary


def place(session: Session, request: OrderRequest) -> PlacedOrder:
    """Price the order, and commit it with its outbox row. Raises `UnknownDish`."""
    placed = add_order(session, request)
    session.add(OutboxRecord(order_id=placed.order_id, message=placed.model_dump(mode="json")))
    session.commit()
    return placed


@contextmanager
def outbox_batch() -> Iterator[list[dict[str, Any]]]:
    """The oldest messages of the outbox. They are deleted at the end of the block, which must have had them confirmed.

    PostgreSQL locks their rows, so that several relays share the work; SQLite has one relay.
    """
    query = select(OutboxRecord).order_by(OutboxRecord.order_id).limit(RELAY_BATCH).with_for_update(skip_locked=True)
    with Session(engine()) as session:
        rows = session.scalars(query).all()
        yield [row.message for row in rows]
        if rows:
            session.execute(delete(OutboxRecord).where(OutboxRecord.order_id.in_([row.order_id for row in rows])))
            session.commit()


def charge(placed: PlacedOrder) -> Paid:
    """Charge the order at the gateway and commit the payment, unless that is done already."""
    charge_id, total = _charge_at_gateway(placed), placed.order.total
    insert_once(
        PaymentRecord(
            order_id=placed.order_id,
            amount_minor=total.amount_minor,
            currency=total.currency,
            charge_id=charge_id,
            at=time.time(),
        )
    )
    return Paid(
        event_id=f"{placed.order_id}/payment",
        order_id=placed.order_id,
        type="payment.succeeded.v1",
        at=time.time(),
        detail={"amount": total.model_dump(), "charge_id": charge_id},
        order=placed.order,
    )


def _charge_at_gateway(placed: PlacedOrder) -> str:
    """The charge's id. The gateway has no latency; the order id is the idempotency key in its ledger."""
    total, charge_id = placed.order.total, new_id()
    charged = ChargeRecord(
        order_id=placed.order_id,
        charge_id=charge_id,
        amount_minor=total.amount_minor,
        currency=total.currency,
        at=time.time(),
    )
    if insert_once(charged, _gateway()):
        return charge_id
    with Session(_gateway()) as session:
        return session.get_one(ChargeRecord, placed.order_id).charge_id


def _gateway() -> Engine:
    return engine("GATEWAY_URL")


def notify(channel: str, paid: Paid) -> Report | None:
    """Send the channel's notice, which goes nowhere, and commit that; None where there is nobody to send it to."""
    recipients = {"email": paid.order.customer_email, "sms": paid.order.customer_phone, "restaurant": "kitchen"}
    recipient, kind = recipients.get(channel), NOTICES[channel]  # nobody left an address for push messages
    if recipient is None:
        return None
    now = time.time()
    insert_once(NoticeRecord(order_id=paid.order_id, channel=channel, kind=kind, recipient=recipient, at=now))
    return Report(
        event_id=f"{paid.order_id}/{channel}",
        order_id=paid.order_id,
        type="notification.delivered.v1",
        at=now,
        detail={"channel": channel, "notice": kind},
    )


def track(report: Report) -> None:
    """Add the event to the order's timeline and commit that with the new status, unless it is there already."""
    with Session(engine()) as session:
        order = session.get_one(OrderRecord, report.order_id, with_for_update=True)
        records = session.scalars(select(TimelineRecord).where(TimelineRecord.order_id == report.order_id)).all()
        if any(record.event_id == report.event_id for record in records):
            return
        new = TimelineRecord(**report.model_dump(include=set(Report.model_fields)))
        session.add(new)
        order.status = status_of([_entry(record) for record in (*records, new)])
        session.commit()


def _entry(record: TimelineRecord) -> TimelineEntry:
    return TimelineEntry(record.event_id, record.type, datetime.fromtimestamp(record.at, UTC), record.detail)

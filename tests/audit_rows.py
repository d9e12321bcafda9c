"""What the services say of some orders, as rows for the audit, and ways to spoil them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control_room.operations.audit.auditor import judge
from control_room.operations.audit.reconciliation import Books, books
from control_room.operations.audit.report import AuditReport

EUR = {"amount_minor": 2150, "currency": "EUR"}
OTHER = {"amount_minor": 2151, "currency": "EUR"}
LONG_AGO, JUST_NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00.5Z"
CHANGED_BEFORE = 1767312000.0  # the start of 2026-01-02
NOW = CHANGED_BEFORE + 60

Rows = dict[str, list[dict[str, Any]]]


def order(order_id: str, status: str, *, wants_sms: bool = False) -> dict[str, Any]:
    return {"order_id": order_id, "status": status, "total": EUR, "updated_at": LONG_AGO, "wants_sms": wants_sms}


def payment(order_id: str, status: str) -> dict[str, Any]:
    return {"kind": "payment", "order_id": order_id, "status": status, "amount": EUR}


def charge(order_id: str, kind: str = "charge") -> dict[str, Any]:
    return {"kind": "charge", "order_id": order_id, "charge_id": "1", "type": kind, "amount": EUR}


def told(order_id: str, channel: str, notice: str, status: str = "delivered") -> dict[str, Any]:
    return {"kind": "notification", "order_id": order_id, "channel": channel, "notice": notice, "status": status}


def letter(order_id: str, queue: str, reason: str = "attempts-exhausted") -> dict[str, Any]:
    return {"order_id": order_id, "queue": queue, "id": "m-1", "reason": reason, "error": "", "parked_at": 1.0}


def right_rows() -> Rows:
    """One order of each kind, and a piece of poison."""
    return {
        "accepted": [{"order_id": order_id} for order_id in ("confirmed", "declined", "stalled")],
        "orders": [
            order("confirmed", "confirmed", wants_sms=True),
            order("declined", "declined"),
            order("stalled", "stalled"),
            order("untold", "paid"),
            order("refunded", "refunded"),
            order("cancelled", "cancelled"),
        ],
        "books": [
            payment("confirmed", "succeeded"), charge("confirmed"),
            told("confirmed", "email", "receipt"), told("confirmed", "sms", "receipt"),
            told("confirmed", "restaurant", "kitchen_ticket"),
            payment("declined", "declined"), told("declined", "email", "decline"),
            payment("stalled", "stalled"),
            payment("untold", "succeeded"), charge("untold"), told("untold", "email", "receipt", "failed"),
            told("untold", "restaurant", "kitchen_ticket"),
            payment("refunded", "succeeded"), charge("refunded"), charge("refunded", "refund"),
        ],
        "letters": [
            letter("stalled", "payment_service.charge"),
            letter("untold", "notification_service.email"),
            letter("", "payment_service.charge", "not-json"),
        ],
        "discards": [],
    }  # fmt: skip


def audited(rows: Rows, first: list[dict[str, Any]] | None = None) -> AuditReport:
    with filled(rows, first) as kept:
        return judge(kept, 60)


@contextmanager
def filled(rows: Rows, first: list[dict[str, Any]] | None = None) -> Iterator[Books]:
    with books(CHANGED_BEFORE) as kept:
        kept.accept(row["order_id"] for row in rows["accepted"])
        kept.first_orders(first if first is not None else rows["orders"])
        kept.add(rows["books"])
        kept.add_letters(rows["letters"])
        kept.add_letters(rows["discards"], discarded=True)
        kept.last_orders(rows["orders"])
        yield kept


def about(rows: Rows, part: str, **wanted: str) -> dict[str, Any]:
    return next(row for row in rows[part] if all(row.get(name) == value for name, value in wanted.items()))


def remove(rows: Rows, part: str, **wanted: str) -> None:
    rows[part].remove(about(rows, part, **wanted))


def double(rows: Rows, part: str, **wanted: str) -> None:
    rows[part].append(dict(about(rows, part, **wanted)))


def change(rows: Rows, part: str, to: dict[str, Any], **wanted: str) -> None:
    about(rows, part, **wanted).update(to)

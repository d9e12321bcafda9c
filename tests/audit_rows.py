"""What the services say of some orders, as rows for the audit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from control_room.operations.audit.auditor import judge
from control_room.operations.audit.reconciliation import ReconciliationDatabase, reconciliation_database
from control_room.operations.audit.report import AuditReport

EUR = {"amount_minor": 2150, "currency": "EUR"}
LONG_AGO, JUST_NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00.5Z"
CHANGED_BEFORE = 1767312000.0  # the start of 2026-01-02
CHARGE, EMAIL = "payment_service.charge", "notification_service.email"

Row = dict[str, Any]
Rows = dict[str, list[Row]]


def order(order_id: str, status: str, *, wants_sms: bool = False, **more: Any) -> Row:
    about = {"order_id": order_id, "status": status, "total": EUR, "updated_at": LONG_AGO, "wants_sms": wants_sms}
    return about | more


def payment(order_id: str, status: str) -> Row:
    return {"kind": "payment", "order_id": order_id, "status": status, "amount": EUR}


def charge(order_id: str, kind: str = "charge") -> Row:
    return {"kind": "charge", "order_id": order_id, "charge_id": "1", "type": kind, "amount": EUR}


def notification(order_id: str, channel: str, notice: str, status: str = "delivered", **more: Any) -> Row:
    about = {"kind": "notification", "order_id": order_id, "channel": channel, "notice": notice, "status": status}
    return about | more


def points(order_id: str, **more: Any) -> Row:
    """A row of a fourth service, of a kind that the audit does not know."""
    return {"kind": "points", "order_id": order_id, "points": 21, **more}


def dead_letter(order_id: str, queue: str, reason: str = "attempts-exhausted", event: str = "") -> Row:
    event = event or ("order.placed" if queue == CHARGE else "payment.succeeded")
    return {"order_id": order_id, "queue": queue, "event": event, "id": "m-1", "reason": reason}


def paid(order_id: str) -> list[Row]:
    """The rows of a paid order that was notified by email, and whose kitchen has its ticket."""
    return [
        payment(order_id, "succeeded"),
        charge(order_id),
        notification(order_id, "email", "receipt"),
        notification(order_id, "restaurant", "kitchen_ticket"),
    ]


def taken_back(order_id: str) -> list[Row]:
    """The rows of an order that was paid, cancelled and refunded. Each of its notices went out, in this order."""
    at = "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"
    return [
        payment(order_id, "refunded"),
        charge(order_id),
        charge(order_id, "refund"),
        notification(order_id, "email", "receipt", at=at[0]),
        notification(order_id, "restaurant", "kitchen_ticket", at=at[0]),
        notification(order_id, "email", "refund", at=at[1]),
        notification(order_id, "restaurant", "kitchen_stop", at=at[1]),
    ]


def right_rows() -> Rows:
    """One order of each kind, and one piece of poison.

    The mail to `untold` failed; the refund of `cancelling` was given up; `moot` was stalled before it was cancelled.
    """
    return {
        "accepted": [{"order_id": order_id} for order_id in ("confirmed", "declined", "stalled")],
        "called_off": [{"order_id": order_id} for order_id in ("refunded", "cancelled", "cancelling", "moot")],
        "orders": [
            order("confirmed", "confirmed", wants_sms=True), order("untold", "paid"),
            *(order(status, status) for status in ("declined", "stalled", "cancelled", "cancelling")),
            order("refunded", "refunded", placed_at=LONG_AGO), order("moot", "cancelled", wants_push=True),
        ],
        "rows": [
            *paid("confirmed"), notification("confirmed", "sms", "receipt"),
            points("confirmed"), points("confirmed", key="bonus"),
            payment("declined", "declined"), notification("declined", "email", "decline"),
            payment("stalled", "stalled"),
            payment("untold", "succeeded"), charge("untold"), notification("untold", "email", "receipt", "failed"),
            notification("untold", "restaurant", "kitchen_ticket"),
            *taken_back("refunded"),
            payment("cancelled", "voided"), notification("cancelled", "email", "cancellation"),
            *paid("cancelling"),
            payment("moot", "voided"), notification("moot", "email", "cancellation"),
            notification("moot", "push", "cancellation"),
        ],
        "dead_letters": [
            dead_letter("stalled", CHARGE), dead_letter("untold", EMAIL), dead_letter("", CHARGE, "not-json"),
            dead_letter("confirmed", "other_service.work"),
            dead_letter("cancelling", CHARGE, event="order.cancelled"), dead_letter("moot", CHARGE),
        ],
        "discards": [],
    }  # fmt: skip


def row_of(rows: Rows, part: str, **values: str) -> Row:
    """The first row with these values."""
    return next(row for row in rows[part] if values.items() <= row.items())


@contextmanager
def filled(rows: Rows, first: list[Row] | None = None) -> Iterator[ReconciliationDatabase]:
    """A database with these rows; `first` are the orders at the first reading, if they were others then."""
    with reconciliation_database(CHANGED_BEFORE) as database:
        database.accept(row["order_id"] for row in rows["accepted"])
        database.call_off(row["order_id"] for row in rows["called_off"])
        database.first_orders(first if first is not None else rows["orders"])
        database.add("a service", rows["rows"])
        database.add_dead_letters(rows["dead_letters"])
        database.add_dead_letters(rows["discards"], discarded=True)
        database.last_orders(rows["orders"])
        yield database


def audited(rows: Rows, first: list[Row] | None = None) -> AuditReport:
    with filled(rows, first) as database:
        return judge(database, 60)


def violations(report: AuditReport) -> set[tuple[str, str]]:
    """Invariant and subject of each."""
    return {(each.invariant, each.subject) for each in report.violations}

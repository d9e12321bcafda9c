"""What the services' books say of the tour's orders, compared with what they should say. Pure, but for `read`."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from control_room.tour.system import System, Unexpected

Row = Mapping[str, Any]
PAID = ("paid", "confirmed")


class Unreadable(Exception):
    """The audit stream of `service` could not be read to its end, so nothing is known about the books."""

    def __init__(self, service: str, why: str) -> None:
        super().__init__(f"the books of {service} could not be read: {why}")
        self.service, self.why = service, why


@dataclass(frozen=True)
class Expectation:
    """What the books must say of one order. `total` is money: `amount_minor` and `currency`."""

    order_id: str
    status: str
    charges: int
    total: Mapping[str, Any]


@dataclass
class Books:
    """The rows about some orders, by kind and order."""

    order_ids: frozenset[str]
    rows: dict[tuple[str, str], list[Row]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Keep a row if it is about one of our orders."""
        if row["order_id"] in self.order_ids:
            self.rows.setdefault((row["kind"], row["order_id"]), []).append(row)

    def about(self, kind: str, order_id: str) -> list[Row]:
        """The rows of one kind about one order."""
        return self.rows.get((kind, order_id), [])


async def read(system: System, order_ids: Iterable[str], deadline_seconds: float) -> Books:
    """Read the audit streams of all services. Raises Unreadable."""
    books = Books(frozenset(order_ids))
    for service in ("order_service", "payment_service", "notification_service"):
        try:
            async with asyncio.timeout(deadline_seconds):
                async for row in system.audit(service):
                    books.add(row)
        except TimeoutError:
            raise Unreadable(service, f"not done after {deadline_seconds:g} s") from None
        except (Unexpected, httpx.HTTPError, ValueError, KeyError) as error:
            raise Unreadable(service, str(error) or type(error).__name__) from error
    return books


def problems(expectations: Sequence[Expectation], books: Books) -> dict[str, list[str]]:
    """What is wrong, by order; an order of which all is right does not appear."""
    found = {each.order_id: _problems_of(each, books) for each in expectations}
    return {order_id: sentences for order_id, sentences in found.items() if sentences}


def _problems_of(expected: Expectation, books: Books) -> list[str]:
    return [
        *_status_problems(expected, books.about("order", expected.order_id)),
        *_charge_problems(expected, books.about("charge", expected.order_id)),
        *_payment_problems(expected, books.about("payment", expected.order_id)),
        *_notification_problems(expected, books.about("notification", expected.order_id)),
    ]


def _status_problems(expected: Expectation, orders: list[Row]) -> list[str]:
    statuses = [row["status"] for row in orders]
    return [] if statuses == [expected.status] else [f"order rows say {statuses or 'nothing'}, not {expected.status}"]


def _charge_problems(expected: Expectation, ledger: list[Row]) -> list[str]:
    charges = [row for row in ledger if row["type"] == "charge"]
    refunds = [row for row in ledger if row["type"] == "refund"]
    found = []
    if len(charges) != expected.charges:
        found.append(f"{len(charges)} charges in the gateway's ledger, not {expected.charges}")
    if refunds:
        found.append(f"{len(refunds)} refunds in the gateway's ledger that nobody asked for")
    wrong = [row["amount"] for row in charges if row["amount"] != expected.total]
    return [*found, *(f"charged {amount}, not {expected.total}" for amount in wrong)]


def _payment_problems(expected: Expectation, payments: list[Row]) -> list[str]:
    if expected.status in (*PAID, "declined") and len(payments) != 1:
        return [f"{len(payments)} payments, not 1"]
    return []


def _notification_problems(expected: Expectation, notifications: list[Row]) -> list[str]:
    emails = [row["status"] for row in notifications if row["channel"] == "email"]
    if expected.status == "confirmed" and emails != ["delivered"]:
        return [f"emails: {emails or 'none'}, not exactly one delivered"]
    return []

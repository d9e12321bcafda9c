"""How long it takes to reconcile many orders, and in how much memory: `python benchmarks/audit.py [orders]`.

Prints one JSON object. The rows are made here; reading them from the services comes on top. One order has no
charge, so that the audit has something to find.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from control_room.operations.audit.auditor import judge
from control_room.operations.audit.reading import BATCH_ROWS
from control_room.operations.audit.reconciliation import ReconciliationDatabase, reconciliation_database

EUR = {"amount_minor": 2150, "currency": "EUR"}
DEFAULT_ORDERS = 1_000_000


def main() -> None:
    """Run it for as many orders as the first argument says."""
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ORDERS
    started, before = time.perf_counter(), peak_mebibytes()
    with reconciliation_database(float(2**40)) as database:
        fill(database, orders)
        filled = time.perf_counter()
        report = judge(database, 0)
    print(
        json.dumps(
            {
                "orders": report.counts["orders"],
                "violations": [f"{each.invariant} {each.subject}" for each in report.violations],
                "fill_seconds": round(filled - started, 1),
                "judge_seconds": round(time.perf_counter() - filled, 1),
                "grown_by_mebibytes": round(peak_mebibytes() - before),
            }
        )
    )


def fill(database: ReconciliationDatabase, orders: int) -> None:
    """All rows, in the order in which an audit reads them."""
    for batch in batches(order(number) for number in range(orders)):
        database.first_orders(batch)
    for batch in batches(row for number in range(orders) for row in rows_about(number, orders)):
        database.add("other services", batch)
    for batch in batches(order(number) for number in range(orders)):
        database.last_orders(batch)


def order(number: int) -> dict[str, Any]:
    status = "declined" if number % 50 == 1 else "confirmed"
    at = "2026-01-01T00:00:00Z"
    return {"order_id": order_id(number), "status": status, "total": EUR, "updated_at": at, "wants_sms": False}


def rows_about(number: int, orders: int) -> Iterator[dict[str, Any]]:
    """What the other services say of an order."""
    about = {"order_id": order_id(number)}
    if number % 50 == 1:
        yield {**about, "kind": "payment", "status": "declined", "amount": EUR}
        yield {**about, "kind": "notification", "channel": "email", "notice": "decline", "status": "delivered"}
        return
    yield {**about, "kind": "payment", "status": "succeeded", "amount": EUR}
    if number != orders // 2:
        yield {**about, "kind": "charge", "charge_id": f"c-{number}", "type": "charge", "amount": EUR}
    for channel, notice in (("email", "receipt"), ("restaurant", "kitchen_ticket")):
        yield {**about, "kind": "notification", "channel": channel, "notice": notice, "status": "delivered"}


def order_id(number: int) -> str:
    return f"019366b4-{number >> 16:04x}-7{number & 0xFFF:03x}-9d0a-{number:012x}"


def batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


def peak_mebibytes() -> float:
    """The most memory that this program has ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage also counts what the parent had when it started us
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()

"""An audit from beginning to end.

Orders are read first and last. What an order says has happened in the other services before it says so: so whatever
an order said at the first look, the books read after it must confirm; and whatever they tell of, the last look knows.
An order that moved between the two, or shortly before, is in flight and not judged. Nor is one blamed for what it
lacks while a message that may be its own is on the way (`on_the_way.py`), for however long: it was counted before the
books were read. What seems wrong all the same is looked at once more: a running system gives no false alarm.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit.invariants import (
    DEAD_LETTER_BELONGS,
    IDLE_ONLY,
    INVARIANTS,
    OUTBOXES_EMPTY,
    QUEUES_EMPTY,
    Invariant,
)
from control_room.operations.audit.leftovers import PATIENCE_SECONDS, leftovers, settled_leftovers
from control_room.operations.audit.on_the_way import on_the_way
from control_room.operations.audit.reading import Reader, read_dead_letters, read_discards, read_journal, unreadable
from control_room.operations.audit.reconciliation import Books, OnTheWay, books
from control_room.operations.audit.report import AuditImpossible, AuditReport, Check, Violation
from shared.management import Management, ManagementError

SHOWN = 100
"""Violations of one invariant that are told in full, and orders in flight that are named."""

COUNTED_AFTER_SECONDS = 5.0
"""An outbox is counted at least so often: a message that is older was counted, or was in its queue by then."""


async def audit(
    system: SystemAddresses,
    settle_seconds: float,
    journal: Path | None = None,
    *,
    discards: Path | None = None,
    only: Iterable[str] | None = None,
    patience_seconds: float = 30.0,
) -> AuditReport:
    """Reconcile every order of a running system, or `only` some. Raises AuditImpossible.

    Orders that changed in the last `settle_seconds` are in flight and not judged; 0 says that the system is idle.
    `journal`: ids of orders that were answered with 202, one a line. `discards`: the journal of discarded dead letters.
    A service that is silent for `patience_seconds` is given up.
    """
    orders = None if only is None else frozenset(only)
    report = await _audit(system, settle_seconds, journal, discards, orders, patience_seconds)
    if settle_seconds and not report.is_clean:
        await asyncio.sleep(PATIENCE_SECONDS)  # until the broker has counted its messages once more
        report = await _audit(system, settle_seconds, journal, discards, orders, patience_seconds)
    return report


async def _audit(
    system: SystemAddresses,
    settle_seconds: float,
    journal: Path | None,
    discards: Path | None,
    only: frozenset[str] | None,
    patience_seconds: float,
) -> AuditReport:
    began_at = time.time()
    changed_before = began_at - settle_seconds if settle_seconds else float(2**40)
    with books(changed_before, only) as kept:
        async with (
            httpx.AsyncClient(timeout=patience_seconds, trust_env=False) as http,
            _management(system) as management,
        ):
            coming = await on_the_way(system, http, management)
            await _read(kept, Reader(system, http, patience_seconds), system, journal, discards, only)
            await _ask_about_dead_letters(kept, system, http)
            await asyncio.to_thread(_spare_what_waits, kept, coming, began_at, settle_seconds)
            if only is None:
                await _look_for_leftovers(kept, system, http, management)
        return await asyncio.to_thread(judge, kept, settle_seconds, whole=only is None)


def _management(system: SystemAddresses) -> Management:
    try:
        return Management(system)
    except ManagementError as error:
        raise AuditImpossible("RabbitMQ", str(error)) from error


async def _read(
    kept: Books,
    reader: Reader,
    system: SystemAddresses,
    journal: Path | None,
    discards: Path | None,
    only: frozenset[str] | None,
) -> None:
    """Fill the books; the order of these steps is what makes it safe on a running system."""
    kept.accept(only or ())
    if journal is not None:
        read_journal(kept, journal)
    await reader.read("order_service", kept.first_orders)
    await reader.read("payment_service", kept.add)
    await reader.read("notification_service", kept.add)
    await read_dead_letters(kept, system.rabbitmq_url)
    if discards is not None:
        read_discards(kept, discards)
    await reader.read("order_service", kept.last_orders)


async def _ask_about_dead_letters(kept: Books, system: SystemAddresses, http: httpx.AsyncClient) -> None:
    """An order may have got through after it was given up, as when the sweep sends everything again for another reason.

    Then its dead letter is of no use any more, and nothing is wrong: the order's timeline tells of it.
    """
    _, suspects = await asyncio.to_thread(kept.find, DEAD_LETTER_BELONGS.query, SHOWN)
    url = system.services["order_service"]
    for order_id in {order_id for order_id, _ in suspects}:
        with unreadable("order_service", url, http.timeout.read):
            answer = await http.get(f"{url}/orders/{order_id}")
        if answer.is_success:
            kept.add_given_up(order_id, [queue for entry in answer.json()["timeline"] if (queue := _given_up(entry))])


def _given_up(entry: Mapping[str, Any]) -> str | None:
    """The queue whose work an entry of a timeline says was given up."""
    if entry["type"].startswith("payment.stalled."):
        return "payment_service.charge"
    return f"notification_service.{entry['channel']}" if entry["type"].startswith("notification.failed.") else None


def _spare_what_waits(kept: Books, coming: Iterable[OnTheWay], began_at: float, settle_seconds: float) -> None:
    lacking = kept.lacking()
    for each in coming:
        if lacking.get(each.queue) and each.counted:
            kept.call_waiting(each, began_at - COUNTED_AFTER_SECONDS, settle_seconds)


async def _look_for_leftovers(
    kept: Books, system: SystemAddresses, http: httpx.AsyncClient, management: Management
) -> None:
    """Queues that are missing; and what outboxes and queues hold though no order is in flight."""
    is_idle = not kept.in_flight(1)[0]
    left = await (settled_leftovers if is_idle else leftovers)(system, http, management)
    for service, count in left.outboxes.items():
        if count and is_idle:
            kept.add_leftover(OUTBOXES_EMPTY.name, service, f"{count} events are not published")
    for queue, messages in left.queues.items():
        if messages is None:
            kept.add_leftover(QUEUES_EMPTY.name, queue, "the queue does not exist")
        elif messages and is_idle:
            kept.add_leftover(QUEUES_EMPTY.name, queue, f"{messages} messages wait in it")


def judge(kept: Books, settle_seconds: float, *, whole: bool = True) -> AuditReport:
    """Hold full books against every invariant. No I/O but the books; takes seconds for a million orders."""
    in_flight, some = kept.in_flight(SHOWN)
    not_judged = "" if whole else "only some orders were looked at"
    if in_flight and whole:
        not_judged = f"{in_flight} orders are in flight"
    checks, violations = [], []
    for invariant in INVARIANTS:
        total, found = kept.find(invariant.query, SHOWN)
        skipped = not_judged if invariant in IDLE_ONLY and not total else ""
        checks.append(Check(invariant.name, invariant.meaning, total, skipped))
        violations += [_violation(kept, invariant, subject, what) for subject, what in found]
    return AuditReport(
        checks=tuple(checks),
        violations=tuple(violations),
        counts=kept.counts(),
        in_flight=in_flight,
        in_flight_orders=some,
        settle_seconds=settle_seconds,
        waiting=kept.waiting(),
    )


def _violation(kept: Books, invariant: Invariant, subject: str, what: str) -> Violation:
    evidence = {} if invariant in IDLE_ONLY else kept.evidence(subject)
    return Violation(invariant.name, subject, what, evidence)

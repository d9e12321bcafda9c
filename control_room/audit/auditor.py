"""An audit from beginning to end.

Orders are read first and last. What an order says has happened in the other services before it says so: so whatever
an order said at the first look, the books read after it must confirm; and whatever they tell of, the last look knows.
An order that moved between the two, or shortly before, is in flight and not judged: a running system gives no false
alarm.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

from control_room.addresses import SystemAddresses
from control_room.audit.invariants.store import (
    IDLE_ONLY,
    INVARIANTS,
    NEED_A_DEAD_LETTER,
    OUTBOXES_EMPTY,
    QUEUES_EMPTY,
    STALLED_HAS_DEAD_LETTER,
    Invariant,
)
from control_room.audit.leftovers import PATIENCE_SECONDS, Leftovers, leftovers, settled_leftovers
from control_room.audit.reading import Reader, read_dead_letters, read_discards, read_journal
from control_room.audit.report import AuditReport, Check, Violation
from control_room.audit.store import Books, books
from shared.management import Management

SHOWN = 100
"""Violations of one invariant that are told in full, and orders in flight that are named."""


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
    changed_before = time.time() - settle_seconds if settle_seconds else float(2**40)
    with books(changed_before, None if only is None else frozenset(only)) as kept:
        async with (
            httpx.AsyncClient(timeout=patience_seconds, trust_env=False) as http,
            Management(system) as management,
        ):
            auditor = _Auditor(system, http, management, kept)
            reader = Reader(system, http, patience_seconds)
            if only is not None:
                kept.accept(only)
            await auditor.read(reader, journal, discards)
            await auditor.look_again(settle_seconds)
            await auditor.look_for_leftovers(whole=only is None)
        return await asyncio.to_thread(judge, kept, settle_seconds, whole=only is None)


class _Auditor:
    """The steps of one audit."""

    def __init__(self, system: SystemAddresses, http: httpx.AsyncClient, management: Management, kept: Books) -> None:
        self._system, self._http, self._management, self._books = system, http, management, kept

    async def read(self, reader: Reader, journal: Path | None, discards: Path | None) -> None:
        """Fill the books; the order of these steps is what makes it safe on a running system."""
        if journal is not None:
            read_journal(self._books, journal)
        await reader.read("order_service", self._books.first_orders)
        await reader.read("payment_service", self._books.add)
        await reader.read("notification_service", self._books.add)
        await read_dead_letters(self._books, self._system.rabbitmq_url)
        if discards is not None:
            read_discards(self._books, discards)
        await reader.read("order_service", self._books.last_orders)

    async def look_again(self, settle_seconds: float) -> None:
        """A dead letter that is missing may have been redriven: its order is in flight while messages are under way."""
        for invariant in NEED_A_DEAD_LETTER:
            _, suspects = await asyncio.to_thread(self._books.find, invariant.query, SHOWN)
            if suspects and settle_seconds:
                await asyncio.sleep(PATIENCE_SECONDS)  # until the broker has counted its messages once more
                left = await leftovers(self._system, self._http, self._management)
                self._books.call_in_flight([order_id for order_id, _ in suspects if _is_under_way(invariant, left)])
                self._books.call_in_flight([order_id for order_id, _ in suspects if await self._has_moved(order_id)])

    async def look_for_leftovers(self, *, whole: bool) -> None:
        """What outboxes and queues hold though no order is in flight."""
        if not whole or self._books.in_flight(1)[0]:
            return
        left = await settled_leftovers(self._system, self._http, self._management)
        for service, count in left.outboxes.items():
            if count:
                self._books.add_leftover(OUTBOXES_EMPTY.name, service, f"{count} events are not published")
        for queue, messages in left.queues.items():
            if messages is None:
                self._books.add_leftover(QUEUES_EMPTY.name, queue, "the queue does not exist")
            elif messages:
                self._books.add_leftover(QUEUES_EMPTY.name, queue, f"{messages} messages wait in it")

    async def _has_moved(self, order_id: str) -> bool:
        """Whether a suspect has changed its status by now."""
        answer = await self._http.get(f"{self._system.services['order_service']}/orders/{order_id}")
        return answer.is_success and not self._books.evidence(order_id)["order_service"].startswith(
            f"{answer.json()['status']} "
        )


def _is_under_way(invariant: Invariant, left: Leftovers) -> bool:
    if invariant is STALLED_HAS_DEAD_LETTER:
        return left.waiting_for("payment_service.charge") > 0
    return any(left.waiting_for(f"notification_service.{channel}") for channel in ("email", "sms", "restaurant"))


def judge(kept: Books, settle_seconds: float, *, whole: bool = True) -> AuditReport:
    """Hold full books against every invariant. No I/O but the books; takes seconds for a million orders."""
    in_flight, some = kept.in_flight(SHOWN)
    not_judged = "" if whole else "only some orders were looked at"
    if in_flight and whole:
        not_judged = f"{in_flight} orders are in flight"
    checks, violations = [], []
    for invariant in INVARIANTS:
        skipped = not_judged if invariant in IDLE_ONLY else ""
        total, found = (0, []) if skipped else kept.find(invariant.query, SHOWN)
        checks.append(Check(invariant.name, invariant.meaning, total, skipped))
        violations += [_violation(kept, invariant, subject, what) for subject, what in found]
    return AuditReport(
        checks=tuple(checks),
        violations=tuple(violations),
        counts=kept.counts(),
        in_flight=in_flight,
        in_flight_orders=some,
        settle_seconds=settle_seconds,
    )


def _violation(kept: Books, invariant: Invariant, subject: str, what: str) -> Violation:
    evidence = {} if invariant in IDLE_ONLY else kept.evidence(subject)
    return Violation(invariant.name, subject, what, evidence)

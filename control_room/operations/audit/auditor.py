"""Carries out an audit.

Orders are read first and last, the other services in between. An order's status follows what other services have done:
so the rows of those services, which are read later, must confirm the first reading; and the last reading has every
order that those rows belong to. An order that changed between the two readings, or shortly before, is in flight and
not judged. An order that lacks something is in flight while a message that may be its own is on the way; messages are
counted before the services are read. On a running system, an audit that finds violations is repeated once, to avoid
false alarms.

Old orders may be pruned meanwhile. Each service records how far it is pruned before it deletes anything: so what the
services say of that after everything else was read covers all that was missing, and such orders are left out.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.asking import explained, read_milestones
from control_room.operations.audit import in_flight
from control_room.operations.audit.in_flight import lasting_leftovers, leftovers, on_the_way
from control_room.operations.audit.invariants import (
    DEAD_LETTER_BELONGS,
    IDLE_ONLY,
    INVARIANTS,
    OUTBOXES_EMPTY,
    QUEUES_EMPTY,
    Invariant,
)
from control_room.operations.audit.reading import (
    read_dead_letters,
    read_discards,
    read_journal,
    read_service,
)
from control_room.operations.audit.reconciliation import ReconciliationDatabase, reconciliation_database
from control_room.operations.audit.report import AuditImpossible, AuditReport, Check, Violation
from control_room.operations.dead_letters.parked import connected
from control_room.operations.roles import CHARGE, ORDERS, channel_queue
from shared.ids import first_id
from shared.management import Management, ManagementError
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection
from shared.persistence.milestones import PRUNED_BEFORE

SHOWN = 100
"""Violations of one invariant that are reported in full, and orders in flight that are named."""

OUTBOX_COUNT_SECONDS = 5.0
"""An outbox is counted at least so often: a message that is older was counted, or was in its queue by then."""


async def audit(
    system: SystemAddresses,
    settle_seconds: float,
    journal: Path | None = None,
    *,
    cancellations: Path | None = None,
    discards: Path | None = None,
    only: Iterable[str] | None = None,
    timeout_seconds: float = 30.0,
) -> AuditReport:
    """Reconcile every order of a running system, or `only` some. Raises AuditImpossible.

    Orders that changed in the last `settle_seconds` are in flight and not judged; 0 says that the system is idle.
    `journal`: ids of orders that were answered with 202, one a line; `cancellations`: of those whose cancellation was.
    `discards`: the journal of discarded dead letters.
    `timeout_seconds`: how long a service may be silent.
    """
    orders = None if only is None else frozenset(only)
    try:
        async with (
            httpx.AsyncClient(timeout=timeout_seconds, trust_env=False) as http,
            Management(system) as management,
            connected(system.rabbitmq_url) as connection,
        ):
            journals = _Journals(journal, cancellations, discards)
            auditor = _Auditor(system, settle_seconds, journals, orders, http, management, connection)
            report = await auditor.run()
            if settle_seconds and not report.is_clean:
                await asyncio.sleep(in_flight.COUNTED_WITHIN_SECONDS)
                report = await auditor.run()
            return report
    except ManagementError as error:
        raise AuditImpossible("RabbitMQ", str(error)) from error
    except BrokerUnavailable as error:
        why = f"the dead letters could not be read, nor what waits in the queues: {error}"
        raise AuditImpossible("RabbitMQ", why) from error


class _Journals(NamedTuple):
    accepted: Path | None
    cancellations: Path | None
    discards: Path | None


@dataclass(frozen=True)
class _Auditor:
    system: SystemAddresses
    settle_seconds: float
    journals: _Journals
    only: frozenset[str] | None
    http: httpx.AsyncClient
    management: Management
    connection: Connection

    async def run(self) -> AuditReport:
        began_at = time.time()
        changed_before = began_at - self.settle_seconds if self.settle_seconds else float(2**40)
        with reconciliation_database(changed_before, self.only) as database:
            coming = await on_the_way(self.system, self.http, self.management, self.connection)
            await self._read(database)
            milestones = await self._milestones()
            pruned = [each[PRUNED_BEFORE] for each in milestones.values() if PRUNED_BEFORE in each]
            pruned_before = max(pruned, default=None)
            if pruned_before is not None:
                database.leave_out(first_id(pruned_before))
            await self._explain_dead_letters(database)
            before = began_at - OUTBOX_COUNT_SECONDS
            await asyncio.to_thread(database.call_waiting, coming, before, self.settle_seconds)
            after_backup = await asyncio.to_thread(database.find_after_backup, milestones[ORDERS.name], SHOWN)
            if self.only is None:
                await self._look_for_leftovers(database)
            report = await asyncio.to_thread(judge, database, self.settle_seconds, whole=self.only is None)
            left_out = None if pruned_before is None else pruned_before.isoformat()
            return replace(report, pruned_before=left_out, after_backup=after_backup)

    async def _read(self, database: ReconciliationDatabase) -> None:
        """Fill the database; the order of these steps is what makes it safe on a running system."""
        database.accept(self.only or ())
        if self.journals.accepted is not None:
            read_journal(database.accept, self.journals.accepted)
        if self.journals.cancellations is not None:
            read_journal(database.call_off, self.journals.cancellations)
        read = partial(read_service, self.system, self.http)
        await read(ORDERS.name, database.first_orders)
        for service in self.system.services:
            if service != ORDERS.name:
                await read(service, partial(database.add, service))
        await read_dead_letters(database, self.connection)
        if self.journals.discards is not None:
            read_discards(database, self.journals.discards)
        await read(ORDERS.name, database.last_orders)

    async def _milestones(self) -> dict[str, dict[str, datetime]]:
        """Of each service, by name."""
        return {service: await read_milestones(self.system, self.http, service) for service in self.system.services}

    async def _explain_dead_letters(self, database: ReconciliationDatabase) -> None:
        """Read the timelines of orders whose dead letters seem to be wrong.

        An order may have been completed after its work was given up, as when the sweep re-emits its event for another
        reason. Then its timeline has both, and nothing is wrong.
        """
        _, suspects = await asyncio.to_thread(database.find, DEAD_LETTER_BELONGS.query, SHOWN)
        url = self.system.services[ORDERS.name]
        for order_id in {order_id for order_id, _ in suspects}:
            with explained(ORDERS.name, url, self.http, "an order"):
                answer = await self.http.get(f"{url}/orders/{order_id}")
            if answer.is_success:
                queues = [queue for entry in answer.json()["timeline"] if (queue := _given_up(entry))]
                database.add_given_up(order_id, queues)

    async def _look_for_leftovers(self, database: ReconciliationDatabase) -> None:
        """Queues that are missing; and, while no order is in flight, what outboxes and queues hold."""
        is_idle = not database.in_flight(1)[0]
        found = await (lasting_leftovers if is_idle else leftovers)(self.system, self.http, self.management)
        for service, count in found.outboxes.items():
            if count and is_idle:
                database.add_leftover(OUTBOXES_EMPTY.name, service, f"{count} events are not published")
        for queue, messages in found.queues.items():
            if messages is None:
                database.add_leftover(QUEUES_EMPTY.name, queue, "the queue does not exist")
            elif messages and is_idle:
                database.add_leftover(QUEUES_EMPTY.name, queue, f"{messages} messages wait in it")


def _given_up(entry: Mapping[str, Any]) -> str | None:
    """The queue whose work was given up, according to an entry of a timeline."""
    if entry["type"].startswith("payment.stalled."):
        return CHARGE
    return channel_queue(entry["channel"]) if entry["type"].startswith("notification.failed.") else None


def judge(database: ReconciliationDatabase, settle_seconds: float, *, whole: bool = True) -> AuditReport:
    """Check every invariant in a database that is filled. Takes seconds for a million orders."""
    in_flight, in_flight_orders = database.in_flight(SHOWN)
    not_judged = "" if whole else "only some orders were looked at"
    if in_flight and whole:
        not_judged = f"{in_flight} orders are in flight"
    checks, violations = [], []
    for invariant in INVARIANTS:
        total, found = database.find(invariant.query, SHOWN)
        skipped = not_judged if invariant in IDLE_ONLY and not total else ""
        checks.append(Check(invariant.name, invariant.meaning, total, skipped))
        violations += [_violation(database, invariant, subject, what) for subject, what in found]
    return AuditReport(
        checks=tuple(checks),
        violations=tuple(violations),
        counts=database.counts(),
        in_flight=in_flight,
        in_flight_orders=in_flight_orders,
        settle_seconds=settle_seconds,
        waiting=database.waiting(),
        statuses=database.statuses(),
        money=database.money(),
    )


def _violation(database: ReconciliationDatabase, invariant: Invariant, subject: str, what: str) -> Violation:
    evidence = {} if invariant in IDLE_ONLY else database.evidence(subject)
    return Violation(invariant.name, subject, what, evidence)

"""Copies what the services, the broker and the journals say into the reconciliation database, in batches."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from pydantic_core import from_json

from control_room.operations.addresses import SystemAddresses
from control_room.operations.asking import check, explained
from control_room.operations.audit.reconciliation import ReconciliationDatabase, Row
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.dead_letters import parked
from control_room.operations.dead_letters.dead_letter import DeadLetter
from shared import contract
from shared.ids import canonical
from shared.messaging.channel import NotFound
from shared.messaging.connection import Connection

BATCH_ROWS = 1000


async def read_service(
    system: SystemAddresses, http: httpx.AsyncClient, service: str, add: Callable[[list[Row]], None]
) -> None:
    """Add every row of a service's audit stream. Raises AuditImpossible."""
    with explained(service, system.services[service], http, "its audit stream"):
        async for rows in _batches(system, http, service):
            add(rows)


async def _batches(system: SystemAddresses, http: httpx.AsyncClient, service: str) -> AsyncIterator[list[Row]]:
    async with http.stream("GET", f"{system.services[service]}/audit", headers=system.operator_headers) as stream:
        await check(service, stream)
        unfinished = b""
        async for chunk in stream.aiter_bytes():
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            yield [from_json(line) for line in lines]
        if unfinished:
            raise ValueError(f"the last line has no end: {unfinished[:100]!r}")


async def read_dead_letters(database: ReconciliationDatabase, connection: Connection) -> None:
    """Add the dead letters of every queue that exists; all of them stay where they are. Raises BrokerUnavailable."""
    for queue in contract.queues():
        with suppress(NotFound):  # queues-empty names a queue that is missing
            async with parked.dead_letters(connection, queue) as found:
                batch: list[Row] = []
                async for held in found:
                    batch.append(_row(held.dead_letter))
                    if len(batch) == BATCH_ROWS:
                        database.add_dead_letters(batch)
                        batch.clear()
                database.add_dead_letters(batch)


def _row(dead_letter: DeadLetter) -> Row:
    return {
        "order_id": dead_letter.event_order_id or "",
        "queue": dead_letter.queue,
        "event": dead_letter.event,
        "id": dead_letter.id,
        "reason": dead_letter.reason,
    }


def read_journal(add: Callable[[list[str]], None], journal: Path) -> None:
    """Add the orders of a journal: one id a line. A last line without an end was never finished."""
    try:
        with journal.open(encoding="utf-8") as file:
            lines = (line.strip() for line in file if line.endswith("\n"))
            for batch in _batched(canonical(line) or line for line in lines if line):
                add(batch)
    except (OSError, UnicodeDecodeError) as error:
        raise AuditImpossible("the journal", f"{journal} can't be read: {error}") from error


def read_discards(database: ReconciliationDatabase, discards: Path) -> None:
    """Add the dead letters that were discarded; none if there is no such file."""
    if not discards.exists():
        return
    try:
        with discards.open(encoding="utf-8") as file:
            for batch in _batched(_discarded(line) for line in file if line.endswith("\n")):
                database.add_dead_letters(batch, discarded=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AuditImpossible("the journal of discards", f"{discards} can't be read: {error!r}") from error


def _discarded(line: str) -> Row:
    entry = json.loads(line)
    reason, order_id = entry["reason"] or "discarded", entry["order_id"] or ""
    event = (entry["message"].get("type") or "").rpartition(".")[0]
    return {"order_id": order_id, "queue": entry["queue"], "event": event, "id": entry["id"], "reason": reason}


def _batched(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch

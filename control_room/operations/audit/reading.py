"""Copies what the services, the broker and the journals say into the reconciliation database, in batches."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from pydantic_core import from_json

from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit.reconciliation import ReconciliationDatabase, Row
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.dead_letters import parked
from control_room.operations.dead_letters.dead_letter import DeadLetter
from shared import contract
from shared.ids import canonical
from shared.messaging.channel import NotFound
from shared.messaging.connection import Connection
from shared.urls import without_credentials

BATCH_ROWS = 1000


@contextmanager
def explained(service: str, url: str, http: httpx.AsyncClient, answer: str) -> Iterator[None]:
    """Raises AuditImpossible, with a sentence for why a service's `answer` could not be read."""
    try:
        yield
    except httpx.ConnectError as error:
        raise AuditImpossible(service, f"it does not answer at {without_credentials(url)}") from error
    except httpx.TimeoutException as error:
        raise AuditImpossible(service, f"it was silent for {http.timeout.read or 0:g} s") from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise AuditImpossible(service, f"it went away while it was read ({why}); run it again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AuditImpossible(service, f"{answer} can't be read: {error!r}") from error


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


async def check(service: str, answer: httpx.Response) -> None:
    """Raises AuditImpossible unless the answer of a service is a success."""
    if answer.is_success:
        return
    await answer.aread()
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise AuditImpossible(service, "it refused the operator's token; is OPERATOR_TOKEN the one that it runs with?")
    asked = f"{answer.request.method} {answer.request.url.path}"
    raise AuditImpossible(service, f"{asked} was answered {answer.status_code}: {_why(answer)[:300]}")


def _why(answer: httpx.Response) -> str:
    """The detail of a problem document; else the body as it is."""
    try:
        problem = answer.json()
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return answer.text


async def read_milestones(system: SystemAddresses, http: httpx.AsyncClient, service: str) -> dict[str, datetime]:
    """A service's milestones by name; none of a version that knows none. Raises AuditImpossible."""
    url = system.services[service]
    with explained(service, url, http, "its milestones"):
        answer = await http.get(f"{url}/milestones", headers=system.operator_headers)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        await check(service, answer)
        return {name: datetime.fromisoformat(at) for name, at in answer.json().items()}


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

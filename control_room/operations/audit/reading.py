"""Copies what the services, the broker and the journals say into the books, a batch at a time."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from pydantic_core import from_json

from control_room.operations.addresses import SystemAddresses
from control_room.operations.audit.reconciliation import Books, Row
from control_room.operations.audit.report import AuditImpossible
from control_room.operations.dead_letters import parked
from control_room.operations.dead_letters.dead_letter import DeadLetter
from shared.ids import canonical
from shared.messaging.channel import BrokerUnavailable, NotFound
from shared.messaging.connection import Connection
from shared.urls import without_credentials

BATCH_ROWS = 1000


@contextmanager
def unreadable(service: str, url: str, patience_seconds: float | None) -> Iterator[None]:
    """Says in a sentence why a service could not be read: raises AuditImpossible in place of httpx's errors."""
    try:
        yield
    except httpx.ConnectError as error:
        raise AuditImpossible(service, f"it does not answer at {without_credentials(url)}") from error
    except httpx.TimeoutException as error:
        raise AuditImpossible(service, f"it was silent for {patience_seconds or 0:g} s") from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise AuditImpossible(service, f"it went away while it was read ({why}); run it again") from error


class Reader:
    """Reads one system's books over HTTP. Every call raises AuditImpossible, with a sentence a person can act on."""

    def __init__(self, system: SystemAddresses, http: httpx.AsyncClient, patience_seconds: float) -> None:
        self._system, self._http, self._patience_seconds = system, http, patience_seconds

    async def read(self, service: str, add: Callable[[list[Row]], None]) -> None:
        """Every row of a service's audit stream."""
        with unreadable(service, self._system.services[service], self._patience_seconds):
            try:
                async for rows in self._batches(service):
                    add(rows)
            except (ValueError, KeyError, TypeError) as error:
                raise AuditImpossible(service, f"its audit stream has a row that can't be read: {error!r}") from error

    async def _batches(self, service: str) -> AsyncIterator[list[Row]]:
        url = f"{self._system.services[service]}/audit"
        headers = {"Authorization": f"Bearer {self._system.operator_token}"}
        async with self._http.stream("GET", url, headers=headers, timeout=self._patience_seconds) as stream:
            await _check(service, stream)
            rest = b""
            async for chunk in stream.aiter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                yield [from_json(line) for line in lines]
            if rest:
                raise ValueError(f"the last line has no end: {rest[:100]!r}")


async def _check(service: str, stream: httpx.Response) -> None:
    if stream.is_success:
        return
    await stream.aread()
    if stream.status_code == httpx.codes.UNAUTHORIZED:
        raise AuditImpossible(service, "it refused the operator's token; is OPERATOR_TOKEN the one that it runs with?")
    raise AuditImpossible(service, f"GET /audit was answered {stream.status_code}: {_why(stream)[:300]}")


def _why(answer: httpx.Response) -> str:
    """What a problem says; else the body as it is."""
    try:
        problem = answer.json()
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return answer.text


async def read_dead_letters(books: Books, url: str) -> None:
    """Every dead letter of every queue; all of them stay where they are. A missing queue is noted in the books."""
    try:
        async with parked.connected(url) as connection:
            for queue in parked.QUEUES:
                await _read_queue(books, connection, queue)
    except BrokerUnavailable as error:
        raise AuditImpossible("RabbitMQ", f"the dead letters could not be read: {error}") from error


async def _read_queue(books: Books, connection: Connection, queue: str) -> None:
    batch: list[Row] = []
    try:
        async with parked.dead_letters(connection, queue) as letters:
            async for held in letters:
                batch.append(row_of(held.dead_letter))
                if len(batch) == BATCH_ROWS:
                    books.add_letters(batch)
                    batch.clear()
    except NotFound:
        return  # said by the look at the queues
    books.add_letters(batch)


def row_of(letter: DeadLetter) -> Row:
    """A dead letter for the books: it is an order's only if it is an event that we can read."""
    return {
        "order_id": letter.event_order_id or "",
        "queue": letter.queue,
        "id": letter.id,
        "reason": letter.reason,
        "error": letter.error,
        "parked_at": letter.parked_at.timestamp() if letter.parked_at else None,
    }


def read_journal(books: Books, journal: Path) -> None:
    """The orders that a client was promised: one id a line. A last line without an end was never finished."""
    try:
        with journal.open(encoding="utf-8") as file:
            lines = (line.strip() for line in file if line.endswith("\n"))
            for batch in _batched(canonical(line) or line for line in lines if line):
                books.accept(batch)
    except (OSError, UnicodeDecodeError) as error:
        raise AuditImpossible("the journal", f"{journal} can't be read: {error}") from error


def read_discards(books: Books, discards: Path) -> None:
    """Dead letters that were removed on purpose: no file, no discards."""
    if not discards.exists():
        return
    try:
        with discards.open(encoding="utf-8") as file:
            for batch in _batched(_discarded(line) for line in file if line.endswith("\n")):
                books.add_letters(batch, discarded=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AuditImpossible("the journal of discards", f"{discards} can't be read: {error!r}") from error


def _discarded(line: str) -> Row:
    entry = json.loads(line)
    at = datetime.fromisoformat(entry["discarded_at"]).timestamp()
    why = {"reason": entry["reason"] or "discarded", "error": entry["because"], "parked_at": at}
    return {"order_id": entry["order_id"] or "", "queue": entry["queue"], "id": entry["id"], **why}


def _batched(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH_ROWS)):
        yield batch

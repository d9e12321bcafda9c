"""Works out the horizon, and has each service delete what is before it: batch by batch, with pauses.

Services are asked by port, causes before effects, and each says how far those behind it may go. Whatever stops
a run, the next one goes on where it ended.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from control_room.operations.addresses import SystemAddresses
from control_room.operations.asking import Unanswered, check, explained, read_milestones
from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.discard import forget
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.selection import Selection, selected
from shared.events.envelope import SUBJECT
from shared.ids import first_id, made_at
from shared.messaging.channel import BrokerUnavailable
from shared.persistence.milestones import PRUNED_BEFORE

FAILURES = (Unanswered, BrokerUnavailable, NotDone)
"""What `prune` raises: something can't be asked, or does not answer."""

TIMEOUT_SECONDS = 60.0
"""A first answer may take a while: the service may look at every subject that may go."""

FIRST_RECORDS, FEWEST_RECORDS, MOST_RECORDS = 20, 10, 500
BATCH_SECONDS = 0.004
"""As long as a database should be busy with a batch: a request may have to wait for it."""

SHARE_OF_TIME = 0.0125
"""For which a database is busy with deletions; requests and commits cost the machine several times as much."""


@dataclass(frozen=True)
class Pruned:
    """What began before `before` is gone. `held_by`: why it is not RETAIN_DAYS ago; empty if it is.

    `deleted`: records by service. `discards`: entries of the journal of discarded dead letters.
    """

    before: datetime
    held_by: str
    deleted: dict[str, int]
    discards: int


async def prune(system: SystemAddresses, retain_days: int, discards: Path) -> Pruned:
    """Prune every service, and the journal of discarded dead letters. Raises FAILURES."""
    before = datetime.now(UTC) - timedelta(days=retain_days)
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, headers=system.operator_headers) as http:
        reached = [await read_milestones(system, http, service) for service in system.services]  # all of them answer
        last = max((each[PRUNED_BEFORE] for each in reached if PRUNED_BEFORE in each), default=None)
        before, held_by = await _before_dead_letters(system, before, last)
        deleted = {}
        for service in system.services:
            deleted[service], answer = await _prune_service(system, http, service, before)
            before, held_by = _as_far_as(answer, before, held_by)
    before = max(before, last or before)  # less may have been kept then than now
    return Pruned(before, held_by, deleted, await asyncio.to_thread(forget, discards, before))


async def _before_dead_letters(
    system: SystemAddresses, before: datetime, last: datetime | None
) -> tuple[datetime, str]:
    """The moment, or the beginning of the oldest subject with a dead letter, and why it is that."""
    oldest: DeadLetter | None = None
    # What is parked about subjects that are pruned already, such as events that came late, holds nothing back.
    pruned, first = first_id(last) if last else "", first_id(before)
    async with connected(system.rabbitmq_url) as connection, aclosing(selected(connection, Selection())) as found:
        async for held in found:
            order_id = held.dead_letter.order_id or ""
            if pruned <= order_id < first and order_id:
                oldest, first = held.dead_letter, order_id
    if oldest is None:
        return before, ""
    return made_at(first), f"{SUBJECT} {first} has a dead letter for {oldest.queue}: redrive it, or discard it"


def _as_far_as(answer: dict[str, Any], before: datetime, held_by: str) -> tuple[datetime, str]:
    """How far the service went, and why not further."""
    reached = datetime.fromisoformat(answer["before"])
    if reached >= before:
        return before, held_by
    if answer["held_by"] is None:
        return reached, f"younger {SUBJECT}s can still change"
    return reached, f"{SUBJECT} {answer['held_by']} is not settled"


async def _prune_service(
    system: SystemAddresses, http: httpx.AsyncClient, service: str, before: datetime
) -> tuple[int, dict[str, Any]]:
    """How many records were deleted, and the first answer."""
    deleted, limit = 0, FIRST_RECORDS
    first: dict[str, Any] | None = None
    while True:
        answer = await _ask(system, http, service, {"before": before.isoformat(), "limit": limit})
        first = first or answer
        deleted += answer["deleted"]
        if not answer["more"]:
            return deleted, first
        limit = max(FEWEST_RECORDS, min(MOST_RECORDS, int(limit * min(2.0, BATCH_SECONDS / answer["seconds"]))))
        await asyncio.sleep(answer["seconds"] * (1 / SHARE_OF_TIME - 1))


async def _ask(system: SystemAddresses, http: httpx.AsyncClient, service: str, batch: dict[str, Any]) -> dict[str, Any]:
    url = system.services[service]
    with explained(service, url, http, "its answer"):
        answer = await http.post(f"{url}/prune", json=batch)
        await check(service, answer)
        said: dict[str, Any] = answer.json()
        return said

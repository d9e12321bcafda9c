"""Moments that divide the subjects of a service: what began before `pruned_before` may be gone, for example.

Each database has a row for each milestone that it has reached.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from shared.events.envelope import SUBJECT
from shared.ids import first_id, seconds_since
from shared.messaging.retry import PermanentError
from shared.persistence.backends import backend_of
from shared.persistence.bulk import BulkInsert
from shared.persistence.database import Database
from shared.persistence.schema import milestones

PRUNED_BEFORE = "pruned_before"
"""Records of subjects that began before are deleted, or are about to be."""
RESTORED_TO, RESTORED_AT = "restored_to", "restored_at"
"""A backup of this moment was restored, then. What happened in between is not in it."""

YOUNGEST_SECONDS = 24 * 3600.0
"""A subject is pruned at this age at the earliest: for so long at least its idempotency key counts."""

PRUNED = f"{SUBJECT}-pruned"
"""The reason of a dead letter whose subject is pruned."""

_ALL = select(milestones)


class Milestone(NamedTuple):
    name: str
    at: datetime


def _forward_only(insert: Any) -> Any:
    new = insert.excluded.at
    return insert.on_conflict_do_update(index_elements=["name"], set_={"at": new}, where=milestones.c.at < new)


_REACH = BulkInsert(milestones, _forward_only)


def reach(connection: Connection, reached: list[Milestone]) -> list[None]:
    """Record each milestone, unless a later moment is recorded."""
    for milestone in reached:  # one by one: a statement can't write a row twice
        _REACH.run(connection, [milestone._asdict()])
    return [None for _ in reached]


def read(connection: Connection, requests: list[None]) -> list[dict[str, datetime]]:
    """For each request all milestones by name."""
    found = {row.name: row.at for row in connection.execute(_ALL)}
    return [found for _ in requests]


def write(url: str, reached: Mapping[str, datetime]) -> None:
    """Record milestones in a database that no service uses now. Raises SQLAlchemy's errors."""
    backend = backend_of(url)
    try:
        with backend.engine.execution_options(**backend.options(writes=True)).begin() as connection:
            milestones.create(connection, checkfirst=True)
            reach(connection, [Milestone(*each) for each in reached.items()])
    finally:
        backend.engine.dispose()


async def pruned_before(database: Database) -> datetime | None:
    """The moment up to which this database is pruned, if it is."""
    return (await database.look_up(read, None)).get(PRUNED_BEFORE)


async def is_pruned(database: Database, key: str) -> bool:
    """Whether the subject is pruned whose id is the key, or begins it.

    Asked after a look-up that found nothing, this says whether there ever was something: a milestone is committed
    before, or together with, the first deletion. A young one costs no statement.
    """
    age_seconds = seconds_since(key)
    if age_seconds is not None and age_seconds < YOUNGEST_SECONDS / 2:  # half: clocks may differ
        return False
    moment = await pruned_before(database)
    return moment is not None and key < first_id(moment)


async def expect_kept(database: Database, key: str) -> None:
    """Raises `PermanentError` if the subject is pruned whose id is the key, or begins it."""
    if await is_pruned(database, key):
        order_id = key.partition("/")[0]
        raise PermanentError(PRUNED, f"{SUBJECT} {order_id} is so old that its records are pruned; nothing was done")

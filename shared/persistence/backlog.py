"""Where the outbox relay gets its rows from: one class for a table of its own, one for a table shared with replicas."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from shared.persistence.database import Database
from shared.persistence.outbox import Outbox, OutboxRow

BATCH_ROWS = 100
"""Few enough that a batch does not hold up the other work of the event loop."""

MAX_ROWS_IN_MEMORY = 1000
"""Rows beyond are read from the table when their turn comes."""

DELETE_SECONDS = 0.1
"""How long published rows stay in the table, so that one commit deletes many of them."""

POLL_SECONDS = 1.0
"""How often the table is read in any case: it finds rows that were not handed over."""


@dataclass(slots=True)
class Claim:
    """Rows to be published, and the ids of those that the broker has confirmed or returned."""

    rows: list[OutboxRow] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)


class OwnBacklog:
    """The rows of a table that no other process publishes (SQLite).

    Commits hand their rows over. The table is read when they can't be all: after a start, a failure, or an overflow.
    """

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self._rows: list[OutboxRow] = []
        self._is_complete = False  # no other rows in the table but `_rows` and those of `_published`
        self._published = Claim()  # confirmed and returned rows that the table does not know to be so
        self.read_at = 0.0
        """When the table is to be read again, in the event loop's time."""

    @property
    def undeleted(self) -> int:
        """How many rows in the table are published."""
        return len(self._published.confirmed)

    def add(self, added: Sequence[Sequence[OutboxRow]]) -> None:
        """Rows that a commit has just added, if the commits before have handed over all of theirs."""
        rows = [row for rows in added for row in rows]
        self._is_complete = self._is_complete and len(self._rows) + len(rows) <= MAX_ROWS_IN_MEMORY
        if self._is_complete:
            self._rows += rows

    @contextlib.asynccontextmanager
    async def claim(self, *, is_last: bool = False) -> AsyncIterator[Claim]:
        """The next rows. What the block notes of them is written to the table later, but before the last claim."""
        loop = asyncio.get_running_loop()
        if is_last or loop.time() >= self.read_at or not (self._rows or self._is_complete):
            await self._update_and_read()
        claim = Claim(self._rows[:BATCH_ROWS])
        yield claim
        del self._rows[: len(claim.rows)]
        self._published.confirmed += claim.confirmed
        self._published.returned += claim.returned
        self._is_complete = self._is_complete and len(claim.confirmed) == len(claim.rows)
        if claim.rows:
            self.read_at = min(self.read_at, loop.time() + DELETE_SECONDS)

    async def _update_and_read(self) -> None:
        """In one transaction: rows of earlier commits are read by it, rows of later ones are handed over."""
        published, self._published = self._published, Claim()
        self._rows, self._is_complete = [], True
        try:
            read = await self._database.write(self._update_and_read_rows, published)
        except BaseException:
            # Kept, so that they are not published again while they can't be deleted.
            self._published, self._is_complete = published, False
            raise
        self._is_complete = self._is_complete and len(read) < BATCH_ROWS
        ids = {row.id for row in read}
        self._rows = read + [row for row in self._rows if row.id not in ids and self._is_complete]
        self.read_at = asyncio.get_running_loop().time() + POLL_SECONDS

    def _update_and_read_rows(self, connection: Connection, claims: list[Claim]) -> list[list[OutboxRow]]:
        update(self._outbox, connection, claims)
        return [self._outbox.waiting(connection, BATCH_ROWS) for _ in claims]


class SharedBacklog:
    """The rows of a table that the relays of all replicas publish (PostgreSQL): row locks share the work."""

    undeleted = 0

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self._confirmed: set[int] = set()  # whose deletion is not committed: they are not published again
        self.read_at = 0.0

    def add(self, added: Sequence[Sequence[OutboxRow]]) -> None:
        """Handed over or not, rows are read: another replica may have locked them."""

    @contextlib.asynccontextmanager
    async def claim(self, *, is_last: bool = False) -> AsyncIterator[Claim]:
        """The next rows. They are locked, and what the block notes of them is written, in one transaction."""
        claim = Claim()

        def lock(connection: Connection) -> None:
            claim.rows = self._outbox.waiting(connection, BATCH_ROWS, locked=True)
            claim.confirmed = [row.id for row in claim.rows if row.id in self._confirmed]

        def forget(connection: Connection) -> None:
            self._confirmed.update(claim.confirmed)
            update(self._outbox, connection, [claim])

        async with self._database.transaction(lock, forget):
            yield claim
        self._confirmed.clear()
        self.read_at = asyncio.get_running_loop().time() + POLL_SECONDS


def update(outbox: Outbox, connection: Connection, claims: list[Claim]) -> None:
    """Delete confirmed rows, and put returned ones behind the others."""
    for claim in claims:
        if claim.confirmed:
            outbox.forget(connection, claim.confirmed)
        if claim.returned:
            outbox.put_behind(connection, claim.returned)

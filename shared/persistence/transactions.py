"""Runs a batch of rows in one transaction: each operation once over all its rows.

If the transaction fails, its rows are tried one by one, so that a bad row fails alone. If the answer to its COMMIT is
lost, it is run again: operations find by key what is already written.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from shared.persistence.backends import Backend
from shared.persistence.batcher import Batch, Operation
from shared.persistence.failures import (
    CommitUnknown,
    DatabaseUnavailable,
    commit_unknown,
    is_conflict,
    is_lost,
    is_stale_plan,
    translated,
)

MAX_CONFLICTS = 5
"""How often a transaction is run again at once after a collision with another transaction."""

ASK_SECONDS = 3.0
"""How long a batch whose commit is unknown is run again. Its callers wait meanwhile."""

ASK_PAUSE_SECONDS = 0.1

_HANDED_OVER = "handed_over"
_IS_REPEATED = "is_repeated"


def hand_over(connection: Connection, item: Any) -> None:
    """Give it to the listeners of `Database.on_commit` once this transaction is committed. A rollback forgets it."""
    connection.info.setdefault(_HANDED_OVER, []).append(item)


def is_repeated(connection: Connection) -> bool:
    """Whether the same rows were in a transaction whose commit is unknown: they may be written already."""
    return bool(connection.info.get(_IS_REPEATED))


class Transactions:
    """The transactions of one batcher, one at a time."""

    def __init__(self, backend: Backend, *, writes: bool = False) -> None:
        self._backend = backend
        self._engine = backend.engine.execution_options(**backend.options(writes))
        self._connection: Connection | None = None  # the one of the last transaction
        self._cleanup = contextlib.ExitStack()  # of the connection
        self._is_reused = False
        self._handed_over: list[Any] = []
        self.has_written = False
        """Whether the last `run` committed a change. A commit without one says nothing of the disk: it may be full."""

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a broken connection
            self._cleanup.close()
        self._connection = None

    def take_handed_over(self) -> list[Any]:
        """What operations have handed over in committed transactions since the last call."""
        items, self._handed_over = self._handed_over, []
        return items

    def run(self, batch: Batch) -> list[Any]:
        """A result or an exception for each row."""
        self.has_written = False
        outcomes = self._try(batch, repeated=False)
        deadline = time.monotonic() + ASK_SECONDS
        while (unknown := _unknown(outcomes)) and time.monotonic() < deadline:
            time.sleep(ASK_PAUSE_SECONDS)
            answers = self._try([batch[number] for number in unknown], repeated=True)
            for number, answer in zip(unknown, answers, strict=True):
                # A repetition that wrote nothing does not say what the first try has written.
                outcomes[number] = commit_unknown(answer) if isinstance(answer, DatabaseUnavailable) else answer
        return outcomes

    def _try(self, batch: Batch, *, repeated: bool) -> list[Any]:
        try:
            return self._transaction_without_conflict(batch, repeated)
        except CommitUnknown as unknown:
            return [unknown] * len(batch)
        except Exception as error:  # noqa: BLE001 - whatever an operation raises belongs to its callers
            if len(batch) == 1:
                return [translated(error)]
        return self._one_by_one(batch, repeated)

    def _one_by_one(self, batch: Batch, repeated: bool) -> list[Any]:
        outcomes: list[Any] = []
        for entry in batch:
            # Once the database itself has failed, each further row would only wait for the same failure.
            if outcomes and isinstance(outcomes[-1], DatabaseUnavailable):
                outcomes.append(DatabaseUnavailable(str(outcomes[-1])))
            else:
                outcomes += self._try([entry], repeated=repeated)
        return outcomes

    def _transaction_without_conflict(self, batch: Batch, repeated: bool) -> list[Any]:
        """Run it again after a conflict, and where the connection is broken, or a table altered, since its last use."""
        for _ in range(MAX_CONFLICTS):
            try:
                return self._transaction(batch, repeated)
            except DBAPIError as error:
                was_broken = self._is_reused and is_lost(error)
                if not (is_conflict(error) or is_stale_plan(error) or was_broken):
                    raise
        return self._transaction(batch, repeated)

    def _transaction(self, batch: Batch, repeated: bool) -> list[Any]:
        rows_of: dict[Operation[Any, Any], list[Any]] = {}
        for operation, row, _ in batch:
            rows_of.setdefault(operation, []).append(row)
        with self.begin() as connection:
            handed_over = connection.info[_HANDED_OVER] = []  # by this transaction alone
            connection.info[_IS_REPEATED] = repeated
            changes = self._backend.changes(connection)
            results = {operation: iter(operation(connection, rows)) for operation, rows in rows_of.items()}
            has_changed = self._backend.changes(connection) > changes
        self.has_written = self.has_written or has_changed
        self._handed_over += handed_over
        return [next(results[operation]) for operation, _, _ in batch]

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction, on the connection of the last one if that went well. Raises `CommitUnknown`."""
        self._is_reused = self._connection is not None
        connection = self._connection or self._open()
        is_committing = False
        try:
            with connection.begin():
                yield connection
                is_committing = True
        except Exception as error:
            self._backend.discard_if_stale(connection, error)
            self.close()
            if is_committing and is_lost(error):
                raise commit_unknown(error) from error
            raise

    def _open(self) -> Connection:
        connection = self._cleanup.enter_context(self._engine.connect())
        self._cleanup.enter_context(self._backend.pipeline(connection))
        self._connection = connection
        return connection


def _unknown(outcomes: list[Any]) -> list[int]:
    return [number for number, outcome in enumerate(outcomes) if isinstance(outcome, CommitUnknown)]

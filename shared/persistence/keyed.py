"""Records of work whose primary key is the idempotency key, so that a second delivery finds the work done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Row, Table, bindparam, select

from shared.events import Event
from shared.persistence.backends import insert_into
from shared.persistence.outbox import Outbox
from shared.persistence.pages import ReadPages


class HasStatus(Protocol):
    @property
    def status(self) -> str: ...


Record = TypeVar("Record", bound=HasStatus)


@dataclass(frozen=True, slots=True)
class Recording(Generic[Record]):
    """A record and its event, to be written in one commit."""

    record: Record
    event: Event


class KeyedStore(Generic[Record]):
    """A table with one record for each idempotency key, and the store functions for it.

    The table has one primary key column, and a column `status`. `to_row` and `from_row` convert a record. A record
    whose status is `provisional` (the work was given up for now) can be replaced by a final one.
    """

    def __init__(
        self,
        table: Table,
        outbox: Outbox,
        *,
        to_row: Callable[[Record], Mapping[str, Any]],
        from_row: Callable[[Row[Any]], Record],
        provisional: str,
    ) -> None:
        (key,) = table.primary_key
        self._table, self._key, self._outbox = table, key.name, outbox
        self._to_row, self._from_row, self._provisional = to_row, from_row, provisional
        # Built once: building a statement costs twice as much as running it.
        self._by_key = select(table).where(key.in_(bindparam("keys", expanding=True)))
        self.pages = ReadPages(table, key)

    def get(self, connection: Connection, keys: list[str]) -> list[Record | None]:
        """The record of each key, or None."""
        rows = connection.execute(self._by_key, {"keys": set(keys)})
        found = {getattr(row, self._key): self._from_row(row) for row in rows}
        return [found.get(key) for key in keys]

    def record(self, connection: Connection, recordings: list[Recording[Record]]) -> list[bool]:
        """Write each record with its event, unless its key is taken; for each, whether it was written."""
        rows = [self._to_row(recording.record) for recording in recordings]
        written = record_once(connection, self._table, rows, provisional=self._provisional)
        self._outbox.add(connection, [each.event for each, is_new in zip(recordings, written, strict=True) if is_new])
        return written

    def re_emit(self, connection: Connection, events: list[Event]) -> list[None]:
        """Publish events again, under their own ids."""
        self._outbox.add(connection, events)
        return [None for _ in events]

    def is_final(self, record: Record) -> bool:
        """Whether no later record can replace this one."""
        return record.status != self._provisional


def record_once(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, provisional: str
) -> list[bool]:
    """Write each row unless its key is taken; for each row, whether it was written.

    A row whose status is `provisional` gives way to one whose status is not. Safe against other replicas that record
    the same key at the same time.
    """
    (key,) = (column.name for column in table.primary_key)
    chosen: dict[str, Mapping[str, Any]] = {}  # one row per key, since one statement can't write a row twice
    for row in rows:
        if row[key] not in chosen or chosen[row[key]]["status"] == provisional:
            chosen[row[key]] = row
    statement = _upsert(connection.dialect.name, table, provisional)
    written = set(connection.execute(statement, list(chosen.values())).scalars())
    return [row is chosen[row[key]] and row[key] in written for row in rows]


@cache
def _upsert(dialect: str, table: Table, provisional: str) -> Any:
    """Returns the key of each row that it has written."""
    (key,) = table.primary_key
    statement = insert_into(dialect, table)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[key],
        set_={column.name: new[column.name] for column in table.columns if column is not key},
        where=(table.c.status == provisional) & (new.status != provisional),
    )
    return statement.returning(key)

"""Records of work whose primary key is the idempotency key, so that a second delivery finds the work done."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, false, literal_column, or_, select

from shared.events import Event
from shared.persistence.bulk import BulkInsert
from shared.persistence.one_of import one_of
from shared.persistence.outbox import Outbox
from shared.persistence.pages import ReadPages


class HasStatus(Protocol):
    @property
    def status(self) -> str: ...


Record = TypeVar("Record", bound=HasStatus)

Replaces = Mapping[str, Collection[str]]
"""By the status of a new record: the statuses of the records that it may replace. Where a key is new, any may come."""


@dataclass(frozen=True, slots=True)
class Recording(Generic[Record]):
    """A record and its event, to be written in one commit."""

    record: Record
    event: Event


class KeyedStore(Generic[Record]):
    """A table with one record for each idempotency key, and the store functions for it.

    The table has one primary key column, and a column `status`; where a status replaces itself, also `event_id`.
    `to_row` and `from_row` convert a record.
    `superseded_by` a key: the keys of later work, latest first, whose records make the work of the key out of date.
    """

    def __init__(
        self,
        table: Table,
        outbox: Outbox,
        *,
        to_row: Callable[[Record], Mapping[str, Any]],
        from_row: Callable[[Row[Any]], Record],
        replaces: Replaces,
        superseded_by: Callable[[str], Sequence[str]] = lambda _key: (),
    ) -> None:
        (key,) = table.primary_key
        self._key, self._outbox = key.name, outbox
        self._upsert = upsert(table, replaces)
        self._to_row, self._from_row, self._replaces = to_row, from_row, replaces
        self._superseded_by = superseded_by
        # Built once: building a statement costs twice as much as running it.
        self._by_key = select(table).where(one_of(key, "keys"))
        self.pages = ReadPages(table, key)

    def get(self, connection: Connection, keys: list[str]) -> list[Record | None]:
        """For each key the record of the latest work that supersedes it or, without such work, its own, or None."""
        wanted = [(*self._superseded_by(key), key) for key in keys]
        rows = connection.execute(self._by_key, {"keys": {key for some in wanted for key in some}})
        found = {getattr(row, self._key): self._from_row(row) for row in rows}
        return [next((found[key] for key in some if key in found), None) for some in wanted]

    def record(self, connection: Connection, recordings: list[Recording[Record]]) -> list[bool]:
        """Write each record with its event, unless it must not replace its key's; for each, whether it was written."""
        rows = [self._to_row(recording.record) for recording in recordings]
        written = self._write(connection, rows)
        self._outbox.add(connection, [each.event for each, is_new in zip(recordings, written, strict=True) if is_new])
        return written

    def _write(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """For each row, whether it was written. Other replicas may write rows of the same keys at the same time."""
        chosen: dict[str, Mapping[str, Any]] = {}  # one row per key, since one statement can't write a row twice
        for row in rows:
            key = row[self._key]
            if key not in chosen or chosen[key]["status"] in self._replaces[row["status"]]:
                chosen[key] = row
        written = {row[0] for row in self._upsert.run(connection, list(chosen.values()))}
        return [row is chosen[row[self._key]] and row[self._key] in written for row in rows]

    def re_emit(self, connection: Connection, events: list[Event]) -> list[None]:
        """Publish events again, under their own ids."""
        self._outbox.add(connection, events)
        return [None for _ in events]


def upsert(table: Table, replaces: Replaces) -> BulkInsert:
    """Inserts rows, and returns the keys of those written: a taken key keeps a row that must not be replaced."""
    (key,) = table.primary_key

    def complete(insert: Any) -> Any:
        new = insert.excluded
        makes_way = [_makes_way(table, new, old, status) for status, olds in replaces.items() for old in olds]
        insert = insert.on_conflict_do_update(
            index_elements=[key],
            set_={column.name: new[column.name] for column in table.columns if column is not key},
            where=or_(false(), *makes_way),
        )
        return insert.returning(key)

    return BulkInsert(table, complete)


def _makes_way(table: Table, new: Any, old: str, status: str) -> ColumnElement[bool]:
    """Of two records of the same status only another one is new: after a lost answer the same one is written again."""
    statuses = and_(table.c.status == _literal(old), new.status == _literal(status))
    return and_(statuses, table.c.event_id != new.event_id) if old == status else statuses


def _literal(status: str) -> ColumnElement[str]:
    """Not a parameter: the statement's parameters are the values of the rows alone."""
    return literal_column(f"'{status}'")

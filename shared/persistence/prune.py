"""Deletes the records of old subjects in small batches. Their ids are UUIDv7: "old" is a range of every key."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, Table, bindparam, delete, select

from shared.persistence.one_of import one_of


class Stretch(NamedTuple):
    """At most `limit` rows whose key comes after the key `after`, and before the id `before`."""

    after: str
    before: str
    limit: int


class Deleted(NamedTuple):
    """The keys of the rows, and how long the database was busy with them."""

    keys: Sequence[str]
    seconds: float


class Prune:
    """A store function: deletes the rows of each stretch by `key`, the oldest first.

    `key` is the primary key, and a subject's id, or begins with one. `others`: such ids of further tables, whose rows
    go together with those of `key`; each needs an index. Replicas delete different rows at the same time.
    """

    def __init__(self, key: Column[str], *others: Column[str]) -> None:
        oldest = select(key).where(key > bindparam("after"), key < bindparam("before")).order_by(key)
        self._oldest = oldest.limit(bindparam("limit")).with_for_update(skip_locked=True)
        self._deletions = [delete(_table(column)).where(one_of(column, "keys")) for column in (key, *others)]

    def __call__(self, connection: Connection, stretches: list[Stretch]) -> list[Deleted]:
        return [self._delete(connection, stretch) for stretch in stretches]

    def _delete(self, connection: Connection, stretch: Stretch) -> Deleted:
        began = time.perf_counter()
        keys = connection.execute(self._oldest, stretch._asdict()).scalars().all()
        if keys:
            for deletion in self._deletions:
                connection.execute(deletion, {"keys": keys})
        return Deleted(keys, time.perf_counter() - began)


def _table(column: Column[str]) -> Table:
    table: Table = column.table  # a column of a table's own, not of a query
    return table

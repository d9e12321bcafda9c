"""The record of work done, whose primary key is the idempotency key: what makes the second delivery a no-op."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table

from shared.persistence.database import insert_into


def record_once(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, provisional: str
) -> list[bool]:
    """Write each row unless its key is taken; for each row, whether it was written.

    A row whose `status` is `provisional` (the work was given up for now) gives way to one that is not. The table has
    one primary key column and a column `status`. Safe against other replicas that record the same key meanwhile.
    """
    (key,) = (column.name for column in table.primary_key)
    chosen: dict[str, Mapping[str, Any]] = {}  # one row a key, since one statement cannot touch a row twice
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

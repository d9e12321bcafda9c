"""The record of work done, whose primary key is the idempotency key: what makes the second delivery a no-op."""

from collections.abc import Mapping, Sequence
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
    written = _upsert(connection, table, key, list(chosen.values()), provisional)
    return [row is chosen[row[key]] and row[key] in written for row in rows]


def _upsert(
    connection: Connection, table: Table, key: str, rows: list[Mapping[str, Any]], provisional: str
) -> set[str]:
    statement = insert_into(connection, table)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[table.c[key]],
        set_={column.name: new[column.name] for column in table.columns if column.name != key},
        where=(table.c.status == provisional) & (new.status != provisional),
    )
    return set(connection.execute(statement.returning(table.c[key]), rows).scalars())

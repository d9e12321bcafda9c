"""Inserts and updates of many rows, compiled once: SQLAlchemy's own way costs more for each row.

SQLite runs one statement over all rows. PostgreSQL gets up to 64 rows in one statement, since each is a message to the
server and back; so does SQLite where a statement returns rows.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Dialect, Row, Table, bindparam, update

from shared.persistence.backends import insert_into

ROWS_OF_STATEMENT = (64, 16, 4, 1)
"""Few different numbers, so that each statement stays prepared in the driver or in the server."""

Values = Mapping[str, Any]
"""A row's values by column."""


def skip_existing(insert: Any) -> Any:
    """For `BulkInsert`: leave out the rows whose key exists already."""
    return insert.on_conflict_do_nothing()


class BulkInsert:
    """Inserts rows of a table. `complete` adds to the statement, such as `ON CONFLICT` or `RETURNING`."""

    def __init__(self, table: Table, complete: Callable[[Any], Any] = lambda insert: insert) -> None:
        self._table, self._complete = table, complete
        self._compiled: dict[tuple[object, ...], _Compiled] = {}

    def run(self, connection: Connection, rows: Sequence[Values]) -> list[Row[Any]]:
        """Insert at least one row; returns what the statement does. Every row has the same columns."""
        dialect, columns = connection.dialect, rows[0]
        one = self._get(dialect, columns, 1)
        parameters = one.parameters(rows)
        if dialect.name == "sqlite" and not one.returns_rows:
            connection.exec_driver_sql(one.text, parameters)
            return []
        returned: list[Row[Any]] = []
        for begin, end in _chunks(len(rows)):
            text = self._get(dialect, columns, end - begin).text
            result = connection.exec_driver_sql(text, tuple(chain.from_iterable(parameters[begin:end])))
            if one.returns_rows:
                returned += result
        return returned

    def _get(self, dialect: Dialect, columns: Values, rows: int) -> "_Compiled":
        key = (dialect.name, rows, *columns)
        if key not in self._compiled:
            names = _in_table_order(self._table, columns)
            insert = insert_into(dialect.name, self._table).values([dict.fromkeys(names)] * rows)
            self._compiled[key] = _compile(dialect, self._complete(insert), self._table, names)
        return self._compiled[key]


class BulkUpdate:
    """Sets these columns of the rows that have the given primary keys."""

    def __init__(self, table: Table, *columns: str) -> None:
        (key,) = table.primary_key
        names = _in_table_order(table, columns)
        self._table, self._names = table, [*names, key.name]
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
        self._statement = update(table).where(key == bindparam("key")).values(values)
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Each row has its primary key and the new values."""
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = _compile(dialect, self._statement, self._table, self._names)
        compiled = self._compiled[dialect.name]
        connection.exec_driver_sql(compiled.text, compiled.parameters(rows))


def _in_table_order(table: Table, columns: Container[str]) -> list[str]:
    """As SQLAlchemy writes columns into a statement."""
    return [column.name for column in table.columns if column.name in columns]


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    """Where each statement's rows begin and end."""
    begin = 0
    for size in ROWS_OF_STATEMENT:
        while rows - begin >= size:
            yield begin, begin + size
            begin += size


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement's text, and its parameters: columns with the function that converts a value for the driver."""

    text: str
    columns: Sequence[tuple[str, Callable[[Any], Any] | None]]

    @property
    def returns_rows(self) -> bool:
        return " RETURNING " in self.text

    def parameters(self, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
        """Those of one row each."""
        by_column = [
            [convert(row[name]) for row in rows] if convert else [row[name] for row in rows]
            for name, convert in self.columns
        ]
        return list(zip(*by_column, strict=True))


def _compile(dialect: Any, statement: Any, table: Table, names: Sequence[str]) -> _Compiled:
    positional = dialect if dialect.positional else type(dialect)(paramstyle="format")
    converters = [table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]
    return _Compiled(str(statement.compile(dialect=positional)), list(zip(names, converters, strict=True)))

"""Many rows with few statements, on both databases: they come back as SQLAlchemy itself would have written them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    event,
    select,
)

from shared.persistence.backends import backend_of
from shared.persistence.bulk import BulkInsert, BulkUpdate, skip_existing
from shared.persistence.utc import UtcDateTime

things = Table(
    "things",
    MetaData(),
    Column("key", String, primary_key=True),
    Column("text", String),
    Column("number", BigInteger),
    Column("flag", Boolean),
    Column("body", LargeBinary),
    Column("detail", JSON),
    Column("at", UtcDateTime),
    Column("untouched", Integer, server_default="7"),
)

INSERT = BulkInsert(things)
INSERT_NEW = BulkInsert(things, lambda insert: skip_existing(insert).returning(things.c.key))
UPDATE = BulkUpdate(things, "at", "text")  # not in the table's order


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = backend_of(database_url).engine.execution_options(writes=True)
    with engine.begin() as connection:
        things.create(connection)
        yield connection
    engine.dispose()


def thing(number: int) -> dict[str, Any]:
    noon = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    return {
        "key": f"key {number:04}",
        "text": None if number % 3 == 0 else "100 % of 'it'; :text ? %s",
        "number": 10**12 + number,
        "flag": number % 2 == 0,
        "body": b"\x00\xff%s" if number % 2 else None,
        "detail": {"number": number, "nested": ["ä", None]},
        "at": noon + timedelta(seconds=number),
    }


def stored(connection: Connection) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(select(things).order_by(things.c.key))]


@pytest.mark.parametrize("rows", [1, 3, 4, 85, 500])
def test_every_row_is_inserted_with_every_type_of_column(connection: Connection, rows: int) -> None:
    inserted = [thing(number) for number in range(rows)]
    INSERT.run(connection, inserted)
    read = stored(connection)
    assert read == [{**each, "untouched": 7} for each in inserted]
    assert all(each["at"].tzinfo is UTC for each in read)


def test_the_rows_that_the_statement_returns_are_those_that_are_new(connection: Connection) -> None:
    INSERT_NEW.run(connection, [thing(number) for number in range(0, 90, 2)])
    returned = INSERT_NEW.run(connection, [{**thing(number), "text": "new"} for number in range(90)])
    assert {row.key for row in returned} == {f"key {number:04}" for number in range(1, 90, 2)}
    assert {each["text"] == "new" for each in stored(connection)[::2]} == {False}


def test_rows_are_updated_by_their_keys(connection: Connection) -> None:
    INSERT.run(connection, [thing(number) for number in range(30)])
    later = datetime(2027, 1, 1, tzinfo=UTC)
    UPDATE.run(connection, [{"key": f"key {number:04}", "at": later, "text": f"{number}"} for number in range(5, 25)])
    assert [each["text"] for each in stored(connection)[5:25]] == [str(number) for number in range(5, 25)]
    assert [number for number, each in enumerate(stored(connection)) if each["at"] == later] == list(range(5, 25))


def test_a_batch_takes_few_statements(connection: Connection) -> None:
    texts: list[str] = []
    event.listen(connection, "before_cursor_execute", lambda *arguments: texts.append(arguments[2]))
    INSERT.run(connection, [thing(number) for number in range(85)])
    INSERT.run(connection, [thing(number) for number in range(100, 185)])
    assert len(texts) == 2 * (1 if connection.dialect.name == "sqlite" else 4)  # 64 + 16 + 4 + 1 rows
    assert len(set(texts)) == len(texts) / 2  # so that each stays prepared

"""`key = one of these keys`, in a statement whose text does not depend on how many there are (`tuning.py`)."""

from typing import Any

from sqlalchemy import ARRAY, Column, ColumnElement, Dialect, String, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from shared.persistence.backends import to_json_text


def one_of(column: Column[Any], name: str) -> ColumnElement[bool]:
    """Whether the column's value is in the list, set or tuple of parameter `name`."""
    return _OneOf(column, bindparam(name, type_=_Values(column)))


class _Values(TypeDecorator[Any]):
    """PostgreSQL takes an array, SQLite a JSON text."""

    impl = String
    cache_ok = True

    def __init__(self, column: Column[Any]) -> None:
        super().__init__()
        self.item_type = column.type

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else ARRAY(self.item_type))

    def process_bind_param(self, values: Any, dialect: Dialect) -> Any:
        return to_json_text(list(values)) if dialect.name == "sqlite" else list(values)


class _OneOf(FunctionElement[Any]):
    type = NullType()  # where a database has no booleans, SQLAlchemy adds `= 1` to one, and SQLite uses no index then
    inherit_cache = True


@compiles(_OneOf)
def _compile_for_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(_OneOf, "sqlite")
def _compile_for_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - a column and a parameter

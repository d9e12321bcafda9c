"""A table read page by page in the order of its key, in constant memory, while others write to it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Row, Table, select


class Page(NamedTuple):
    """At most `limit` rows that come after the key `after`; None for the first ones."""

    after: str | None
    limit: int


class ReadPages:
    """A store function, as `Database.read` takes it: the rows of each page, by `key`.

    Keys that are UUIDv7, or begin with one, are in the order of time.
    """

    def __init__(self, table: Table, key: Column[str], *, newest_first: bool = False) -> None:
        self._table, self._key, self._newest_first = table, key, newest_first

    def __call__(self, connection: Connection, pages: list[Page]) -> list[Sequence[Row[Any]]]:
        return [connection.execute(self._query(page)).all() for page in pages]

    def key_of(self, row: Row[Any]) -> str:
        """Where the page after this row begins."""
        return str(getattr(row, self._key.name))

    def _query(self, page: Page) -> Any:
        query = select(self._table).order_by(self._key.desc() if self._newest_first else self._key).limit(page.limit)
        if not page.after:
            return query
        return query.where(self._key < page.after if self._newest_first else self._key > page.after)

"""The histories of the databases, run by Alembic. No service imports this: `order-rail database` and the launcher do.

A history is a folder `versions` with a file for each change; each one's `revision` begins with the name of the package
that owns the database, so that no database is taken for another one. All that is missing runs in one transaction. New
columns are nullable or have a default in the database, so that the version before goes on writing meanwhile.
"""

import logging
import sqlite3
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import op
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shared.persistence import schema
from shared.persistence.backends import backend_of
from shared.persistence.failures import is_unavailable, translated

VERSION_TABLE = "alembic_version"
SHARED_TABLES = {"outbox", "write_probe", "milestones"}
"""Names that say nothing about the owner of a database."""

_SQLITE_CODES = {
    sqlite3.SQLITE_NOTADB: "it is no SQLite database",
    sqlite3.SQLITE_CORRUPT: "it is damaged, restore a backup",
    sqlite3.SQLITE_BUSY: "another process has locked it",
}
_LOCK_TIMEOUT = "55P03"
_LASTING_STATES = ("28", "3D", "42", "58", "XX", "F0")
"""Of PostgreSQL's failures, those that waiting does not mend: a login, a right, a disk."""

_one_at_a_time = threading.Lock()
"""`alembic.op`, which the files of a history import, belongs to the whole process."""

logging.getLogger("alembic").setLevel(logging.WARNING)


class MigrationFailed(Exception):
    """A database was not upgraded: nothing of the migration is in it. The message says why, not which one."""


class NotYet(MigrationFailed):
    """The database is away or locked: it can be upgraded later."""


@dataclass(frozen=True)
class Migration:
    """A change of a history: its revision, and what its file says of it in a line."""

    revision: str
    title: str


class History:
    """The migrations in a folder, and what they make of a database."""

    def __init__(self, directory: Path) -> None:
        self._script = ScriptDirectory(str(directory))

    @classmethod
    def of(cls, package: str) -> "History":
        """Those of a package, such as `diary_service.migrations`. Raises `MigrationFailed` if there is none."""
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise MigrationFailed(f"there is no package {package}, whose folder `versions` would hold its migrations")
        return cls(Path(next(iter(spec.submodule_search_locations))))

    @property
    def migrations(self) -> list[Migration]:
        """All of them, the first one first."""
        return [_migration(each) for each in reversed(list(self._script.walk_revisions(head="head")))]

    def pending(self, url: str) -> list[Migration]:
        """Those that have not run in the database. Creates nothing. Raises `MigrationFailed`."""
        if is_missing_file(url):
            return self.migrations
        backend = backend_of(url)
        try:
            with backend.engine.connect() as connection:
                return self._pending(MigrationContext.configure(connection))
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise _explained(error) from error
        finally:
            backend.engine.dispose()

    def upgrade(self, url: str) -> list[Migration]:
        """Run those that have not run, in one transaction; returns them. Raises `MigrationFailed`, `NotYet`."""
        backend = backend_of(url)
        try:
            with _one_at_a_time, backend.changing_schema() as connection:
                return self._run(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise _explained(error) from error
        finally:
            backend.engine.dispose()

    def _run(self, connection: Connection) -> list[Migration]:
        context = MigrationContext.configure(connection, opts={"fn": self._steps})
        pending = self._pending(context)
        if pending:
            with Operations.context(context):
                context.run_migrations()
        return pending

    def _steps(self, heads: Any, _context: MigrationContext) -> Any:
        return self._script._upgrade_revs("head", heads)  # noqa: SLF001 - what `alembic upgrade head` calls

    def _pending(self, context: MigrationContext) -> list[Migration]:
        heads = context.get_current_heads()
        if not heads:
            return self.migrations
        revisions = [each.revision for each in self.migrations]
        if len(heads) > 1:
            raise MigrationFailed(
                f"its table {VERSION_TABLE} has {len(heads)} rows, {', '.join(sorted(heads))}: somebody changed it; "
                "leave the row of the last migration that it has"
            )
        if heads[0] not in revisions:
            raise MigrationFailed(_unknown(heads[0], revisions[-1]))
        return self.migrations[revisions.index(heads[0]) + 1 :]


def adopt(tables: MetaData) -> None:
    """For the first file of a history: create its tables; in a database from before there were migrations they are.

    Raises `MigrationFailed` for a database that is not empty and whose tables are others.
    """
    connection = op.get_bind()
    there = set(sqlalchemy.inspect(connection).get_table_names()) - {VERSION_TABLE}
    own = tables.tables.keys() - SHARED_TABLES
    if there and not there & own:
        raise MigrationFailed(
            f"it is another program's, or another service's: it has {_names(there)}, and none of {_names(own)}"
        )
    found = schema.columns(connection, list(tables.tables))
    for name, table in tables.tables.items():
        if absent := set(table.columns.keys()) - found.get(name, set(table.columns.keys())):
            raise MigrationFailed(f"it is another program's: its table {name} has no column {_names(absent)}")
    tables.create_all(connection)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column that a database from before there were migrations may have; there its default may be missing."""
    connection = op.get_bind()
    if column.name not in schema.columns(connection, [table])[table]:
        op.add_column(table, column)
    elif column.server_default is not None and connection.dialect.name != "sqlite":  # SQLite can't, and has no replicas
        op.alter_column(table, str(column.name), server_default=column.server_default)


def add_outbox(tables: MetaData) -> None:
    """The outbox as the first migration of a service creates it."""
    Table(
        "outbox",
        tables,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
        Column("event_id", String, nullable=False),
        Column("exchange", String, nullable=False),
        Column("type", String, nullable=False),
        Column("source", String, nullable=False),
        Column("timestamp", BigInteger, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("returns", Integer, nullable=False, server_default="0"),
        Index("outbox_order", "returns", "id"),
    )


def create_write_probe() -> None:
    """The table of `Database` that every database has."""
    columns = (Column("id", Integer, primary_key=True, autoincrement=False), Column("probes", Integer, nullable=False))
    Table("write_probe", MetaData(), *columns).create(op.get_bind(), checkfirst=True)


def create_milestones() -> None:
    """The table of `milestones.py` that every database has."""
    columns = (Column("name", String, primary_key=True), Column("at", DateTime(timezone=True), nullable=False))
    Table("milestones", MetaData(), *columns).create(op.get_bind(), checkfirst=True)


def is_missing_file(url: str) -> bool:
    """Whether it is the URL of a SQLite file that does not exist; to open it would create it."""
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists()


def _migration(script: Script) -> Migration:
    return Migration(script.revision, script.doc)


def _unknown(found: str, last: str) -> str:
    owner, expected_owner = found.rpartition("_")[0], last.rpartition("_")[0]
    if owner == expected_owner:
        return f"a newer version has upgraded it to {found}, and this one knows nothing after {last}: use the newer one"
    return f"it is another one's: its table {VERSION_TABLE} says {found}, and not {expected_owner}_...; check its URL"


def _explained(error: SQLAlchemyError | sqlite3.Error) -> MigrationFailed:
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", 0) & 0xFF
        kind = NotYet if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else MigrationFailed
        return kind(f"{_SQLITE_CODES.get(code, 'SQLite refused it')}: {original}")
    state = getattr(original, "sqlstate", None) or ""
    kind = NotYet if is_unavailable(error) and not state.startswith(_LASTING_STATES) else MigrationFailed
    because = "another upgrade runs, or a transaction holds a table: " if state == _LOCK_TIMEOUT else ""
    return kind(f"{because}{translated(error)}")


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names))

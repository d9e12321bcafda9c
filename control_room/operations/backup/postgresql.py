"""A PostgreSQL database: copied by `pg_dump` at a snapshot, and restored by `pg_restore` in one transaction."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from control_room.operations.backup import BackupError
from control_room.operations.backup.manifest import Kind
from control_room.operations.databases import SystemDatabase

CONNECT_TIMEOUT_SECONDS = 10
FOLDERS = (
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin",
)
"""Where the programs of several versions lie beside each other."""

PLAIN = ("--no-owner", "--no-privileges", "--no-password")
"""Another server's users are others; and a password is never asked for."""


class PostgresqlSnapshot:
    """A database as it was at one moment, for as long as its transaction is open."""

    def __init__(self, database: "Postgresql", connection: psycopg.Connection[Any]) -> None:
        self._database = database
        (self._id,) = _row(connection, "SELECT pg_export_snapshot()")
        self._program, self.server = _program("pg_dump", _server_major(connection))
        (known,) = _row(connection, "SELECT to_regclass('alembic_version') IS NOT NULL")
        row = _row(connection, "SELECT max(version_num) FROM alembic_version") if known else None
        self.revision = row[0] if row and row[0] else ""

    def write(self, file: Path) -> None:
        """Write the copy. Raises BackupError."""
        self._database.run(self._program, "--format=custom", f"--snapshot={self._id}", f"--file={file}")


class Postgresql:
    """A database on a server."""

    kind: Kind = "postgresql"
    suffix = ".dump"

    def __init__(self, database: SystemDatabase) -> None:
        self._url = database.url
        url = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
        given: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, **conninfo_to_dict(url)}
        self._password = str(given.pop("password", "") or "")
        self._address = make_conninfo(**given)
        self._pg_restore = "pg_restore"

    @contextmanager
    def snapshot(self) -> Iterator[PostgresqlSnapshot]:
        """The database as it is now, until the block ends. Raises BackupError."""
        with self._connected() as connection:
            connection.execute("SET idle_in_transaction_session_timeout = 0")  # it waits while the others are copied
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield PostgresqlSnapshot(self, connection)

    def check_empty(self) -> None:
        """Raises BackupError if it has tables, or others are connected to it."""
        with self._connected() as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') "
                "ORDER BY 1 LIMIT 3"
            ).fetchall()
            if tables:
                names = ", ".join(name for (name,) in tables)
                raise BackupError(f"it is not empty: it has the table {names}. Restore into a new, empty database")
            (others,) = _row(
                connection,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'",
            )
            if others:
                raise BackupError(f"it is in use, by {others} connections. Stop the services first")

    def check_server(self, needed: int) -> None:
        """Raises BackupError if this server is older than `needed`, or there is no pg_restore for both."""
        with self._connected() as connection:
            here = _server_major(connection)
        if here < needed:
            raise BackupError(f"the backup needs PostgreSQL {needed}, and this server is older: {here}")
        self._pg_restore, version = _program("pg_restore", here)
        if version > here:
            raise BackupError(f"pg_restore is of PostgreSQL {version}, newer than the server; install that of {here}")

    @contextmanager
    def restored(self, file: Path) -> Iterator[str]:
        """Restore it; inside the block its URL. Raises BackupError."""
        self.run(self._pg_restore, "--single-transaction", "--exit-on-error", str(file))
        try:
            yield self._url
        except SQLAlchemyError as error:
            raise BackupError(str(error).partition("\n")[0]) from error

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs on the database. Raises BackupError with the first of what it says."""
        environment = {**os.environ, **({"PGPASSWORD": self._password} if self._password else {})}
        command = (program, *PLAIN, *arguments, f"--dbname={self._address}")  # everybody sees a command line
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            said = " ".join(done.stderr.split("\n")[:3]).strip()
            raise BackupError(said or f"{program} ended with status {done.returncode}")

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(self._address, password=self._password or None, autocommit=True) as connection:
                yield connection
        except psycopg.Error as error:
            raise BackupError(str(error).partition("\n")[0]) from error


def _row(connection: psycopg.Connection[Any], query: str) -> Any:
    return connection.execute(query).fetchone()


def _server_major(connection: psycopg.Connection[Any]) -> int:
    return connection.info.server_version // 10_000


def _program(name: str, server: int) -> tuple[str, int]:
    """One of PostgreSQL's programs, of the server's version if it is installed, and its version.

    Raises BackupError if there is none, or it is older. A newer pg_dump makes what only a newer server can restore.
    """
    folders = [os.environ.get("PATH", os.defpath), *(folder.format(server) for folder in FOLDERS)]
    found = {path: _major_of(path) for folder in folders if (path := shutil.which(name, path=folder))}
    need = f"PostgreSQL's client programs are needed, in version {server} (Debian: postgresql-client-{server})"
    if not found:
        raise BackupError(f"{name} is not installed; {need}")
    path = min(found, key=lambda each: abs(found[each] - server))
    if found[path] < server:
        raise BackupError(f"{name} is of PostgreSQL {found[path]}, older than the server; {need}")
    return path, found[path]


def _major_of(program: str) -> int:
    said = subprocess.run((program, "--version"), capture_output=True, text=True, check=False).stdout  # noqa: S603
    number = re.search(r"\d+", said)
    return int(number[0]) if number else 0

"""What differs between the two databases: SQLite, a file of this process alone, and PostgreSQL, shared by replicas."""

import contextlib
import importlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import sqlalchemy
from pydantic_core import to_json
from sqlalchemy import Connection, Table, create_engine, event
from sqlalchemy.engine import URL, make_url

from shared.persistence.failures import DatabaseUnavailable, is_conflict, is_stale_plan, is_unavailable

LOCK_TIMEOUT_SECONDS = 5.0
"""How long SQLite waits for another process's lock before it says that it is locked."""

SERVER_TIMEOUTS: dict[str, int] = {
    "connect_timeout": 5,  # seconds, as the next two
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
"""libpq's: how soon a database server that has vanished without a word (a cut network) is noticed."""

_TRANSACTION_ACTIVE = 1  # libpq's PQTRANS_ACTIVE: a command is under way

_PIPELINE = "pipeline"
_CHANGES = "changes"
_FILES = "files"

_RETURNS_NOTHING = re.compile(r"(BEGIN|(INSERT|UPDATE|DELETE) (?!.* RETURNING ))", re.DOTALL)

_SCHEMA_LOCK = 0x0DDE12A11  # any constant; versions before there were migrations take the same one

MIGRATION_LOCK_SECONDS = 1
"""How long a migration on PostgreSQL waits for a lock: meanwhile all other statements on that table wait behind it."""


class Sqlite:
    """One process, one writing connection."""

    is_shared = False
    """Whether replicas of the service may use the same tables at the same time."""

    def __init__(self, url: URL) -> None:
        self._paths = (Path(f"{url.database}"), Path(f"{url.database}-wal"))
        self._paths[0].parent.mkdir(parents=True, exist_ok=True)
        options = {"timeout": LOCK_TIMEOUT_SECONDS, "check_same_thread": False}
        self.engine = create_engine(url, json_serializer=to_json_text, connect_args=options)
        event.listen(self.engine, "connect", self._prepare)
        event.listen(self.engine, "begin", self._begin)

    def options(self, writes: bool) -> dict[str, Any]:
        """Of the connections for transactions that write, or that only read."""
        return {"writes": writes}

    def _prepare(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself: `_begin` does
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a 202 is a promise: a commit is on disk when it returns

    def _begin(self, connection: Connection) -> None:
        # A writer locks at once: a transaction that reads first and writes later can fail with "database is locked".
        writes = connection.get_execution_options().get("writes", False)
        if writes and connection.info.get(_FILES) not in (None, self._files()):
            files = " or ".join(map(str, self._paths))
            raise DatabaseUnavailable(f"{files} was deleted or replaced: put it back, or restart with a backup")
        driver: Any = connection.connection.driver_connection  # past SQLAlchemy, for speed (`tuning.py`)
        driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        if writes and _FILES not in connection.info:  # an empty database has its -wal file from now on
            connection.info[_FILES] = self._files()

    def changes(self, connection: Connection) -> int:
        """How many rows this connection has inserted, updated or deleted so far: a full disk refuses those alone."""
        driver: Any = connection.connection.driver_connection
        return int(driver.total_changes)

    def _files(self) -> list[tuple[int, int]]:
        """The files that the paths lead to. To deleted ones SQLite would go on writing, and all of it would be lost."""
        try:
            found = [path.stat() for path in self._paths]
        except OSError:
            return []
        return [(each.st_dev, each.st_ino) for each in found]

    @contextlib.contextmanager
    def changing_schema(self) -> Iterator[Connection]:
        """One transaction for a migration, which locks the file at once: DDL is undone with the rest if it fails."""
        with self.engine.execution_options(**self.options(writes=True)).begin() as connection:
            yield connection

    @contextlib.contextmanager
    def pipeline(self, connection: Connection) -> Iterator[None]:
        """Nothing to wait for."""
        yield

    def discard_if_stale(self, connection: Connection, error: Exception) -> None:
        """A file's connection stays the right one."""

    def cut_connections(self) -> None:
        """No server that could fail to answer."""


class Postgresql:
    """A server that replicas share, perhaps behind a pooler, and that may be restarted at any time."""

    is_shared = True

    def __init__(self, url: URL) -> None:
        timeouts = {name: value for name, value in SERVER_TIMEOUTS.items() if name not in url.query}
        self.engine = create_engine(
            url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url,
            pool_pre_ping=True, pool_timeout=5, json_serializer=to_json_text, connect_args=timeouts,
        )  # fmt: skip
        self._connections: WeakSet[Any] = WeakSet()
        event.listen(self.engine, "connect", self._prepare)
        event.listen(self.engine, "begin", self._begin)
        event.listen(self.engine, "after_cursor_execute", self._after_statement)
        event.listen(self.engine, "rollback", self._before_rollback)

    def options(self, writes: bool) -> dict[str, Any]:
        """Of the connections for transactions that write, or that only read: those take no BEGIN and no COMMIT.

        At PostgreSQL's usual isolation level each statement sees what was committed before it, in a transaction or not.
        """
        return {"isolation_level": "AUTOCOMMIT", "writes": writes}

    @contextlib.contextmanager
    def pipeline(self, connection: Connection) -> Iterator[None]:
        """Inside the block this waits for the server only where a statement returns rows, and at COMMIT (`tuning.py`).

        Other statements are only sent. Their errors are raised where it waits next. The end of the block closes the
        connection, and may raise. Not behind a pooler.
        """
        driver: Any = connection.connection.driver_connection
        if driver.prepare_threshold is None:
            yield
            return
        with driver.pipeline() as connection.info[_PIPELINE]:
            yield
            connection.invalidate()  # leaving the mode in order would wait for the server

    def changes(self, connection: Connection) -> int:
        """How many statements this connection has sent that a server which only reads would refuse."""
        return int(connection.info.get(_CHANGES, 0))

    def _begin(self, connection: Connection) -> None:
        if connection.get_execution_options().get("writes", False):
            connection.exec_driver_sql("BEGIN")  # the driver's own one would wait for its answer

    def _after_statement(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("SELECT"):
            connection.info[_CHANGES] = self.changes(connection) + 1
        pipeline = connection.info.get(_PIPELINE)
        if pipeline and not _RETURNS_NOTHING.match(statement):
            pipeline.sync()

    def _before_rollback(self, connection: Connection) -> None:
        """Take what the server said to the statements after the one that failed: that they were not run."""
        if not connection.invalidated and (pipeline := connection.info.get(_PIPELINE)):
            with contextlib.suppress(Exception):
                pipeline.sync()

    def _prepare(self, connection: Any, _record: Any) -> None:
        """Prepare no statements behind a pooler such as PgBouncer: each transaction may run on another server process.

        A pooler is known by the process id that it reports at the start, which is not the server's.
        """
        self._connections.add(connection)
        connection.autocommit = True
        server_pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        if connection.info.backend_pid != server_pid:
            connection.prepare_threshold = None
        else:  # a plan that was made for an empty table would be kept while the table grows
            connection.execute("SET plan_cache_mode = force_custom_plan")
        connection.autocommit = False

    @contextlib.contextmanager
    def changing_schema(self) -> Iterator[Connection]:
        """One transaction for a migration. Two of them take turns, and none makes services wait for long."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_SECONDS}s'")
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            yield connection

    def discard_if_stale(self, connection: Connection, error: Exception) -> None:
        """After a failure of the server, give up this connection and those in the pool.

        They may lead to a server that is the wrong one now: after a failover the old primary answers and only reads.
        Or they hold statements that were prepared before a table was altered.
        """
        if is_stale_plan(error) or (is_unavailable(error) and not is_conflict(error)):
            connection.invalidate()
            self.engine.dispose()

    def cut_connections(self) -> None:
        """Shut the sockets on which a thread waits for an answer. The thread is told that its connection broke."""
        for connection in list(self._connections):
            with contextlib.suppress(Exception):  # closed meanwhile
                if connection.pgconn.transaction_status == _TRANSACTION_ACTIVE:
                    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                        duplicate.shutdown(socket.SHUT_RDWR)


Backend = Sqlite | Postgresql


def backend_of(url: str) -> Backend:
    parsed = make_url(url)
    return Sqlite(parsed) if parsed.get_backend_name() == "sqlite" else Postgresql(parsed)


def insert_into(dialect: str, table: Table) -> Any:
    """An insert in the dialect of the database, which has `ON CONFLICT`."""
    # Only the dialect in use is imported: each import makes the start of a service longer.
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


def to_json_text(value: Any) -> str:
    """How a JSON column is written; takes pydantic's models as they are."""
    return to_json(value).decode()

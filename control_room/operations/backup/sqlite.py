"""A SQLite file: copied by SQLite's online backup while its service goes on writing."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from control_room.operations.backup import BackupError
from control_room.operations.backup.manifest import Kind
from control_room.operations.databases import SystemDatabase
from control_room.operations.durable import to_disk

LOCK_TIMEOUT_SECONDS = 10.0
BESIDE = ("-wal", "-shm", "-journal")
"""The ends of the names of files that SQLite keeps beside a database. A new database would take what is in them."""


class SqliteSnapshot:
    """A database as it was at one moment."""

    server = 0

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        known = "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
        version = "SELECT version_num FROM alembic_version"
        row = connection.execute(version).fetchone() if connection.execute(known).fetchone() else None
        self.revision = row[0] if row else ""

    def write(self, file: Path) -> None:
        """Write the copy. Raises BackupError, also if what was copied is damaged."""
        try:
            with closing(sqlite3.connect(file)) as copy:
                self._connection.backup(copy)  # all of it in one step: what others write meanwhile is not seen
                (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            raise BackupError(f"{file}: {error}") from error
        if verdict != "ok":
            raise BackupError(f"the database is damaged ({verdict}); restore an earlier backup of it")


class Sqlite:
    """The file of a database of the system."""

    kind: Kind = "sqlite"
    suffix = ".sqlite"

    def __init__(self, database: SystemDatabase) -> None:
        self._file = Path(make_url(database.url).database or "")

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        """The database as it is now, until the block ends. Raises BackupError."""
        if not self._file.is_file():
            raise BackupError(f"there is no {self._file}; set the variables that `order-rail up` was started with")
        # `rw`: it must be there; a database in WAL mode can't be read without the right to write.
        where = f"file:{quote(str(self._file))}?mode=rw"
        try:
            with closing(
                sqlite3.connect(where, uri=True, isolation_level=None, timeout=LOCK_TIMEOUT_SECONDS)
            ) as connection:
                connection.execute("BEGIN")
                yield SqliteSnapshot(connection)
        except sqlite3.Error as error:
            raise BackupError(f"{self._file}: {error}") from error

    def check_empty(self) -> None:
        """Raises BackupError if there is a database already, or what was left of one."""
        for file in (self._file, *(Path(f"{self._file}{end}") for end in BESIDE)):
            if file.exists():
                raise BackupError(f"{file} is there already: stop the system, and move its *.db* files away")
        if self._file.parent.exists() and not os.access(self._file.parent, os.W_OK):
            raise BackupError(f"{self._file.parent} can't be written")

    def check_server(self, needed: int) -> None:
        """Any SQLite reads what another one wrote."""

    @contextmanager
    def restored(self, file: Path) -> Iterator[str]:
        """Inside the block the URL of a copy, which takes its place as the block ends. Raises BackupError, OSError."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = Path(f"{self._file}.restoring")
        _remove(new)  # what a restore that was killed has left would be applied to the copy
        try:
            shutil.copyfile(file, new)
            yield f"sqlite:///{new}"
            to_disk(new)
            new.replace(self._file)
            to_disk(self._file.parent)
        except SQLAlchemyError as error:
            raise BackupError(f"{new}: {error}") from error
        finally:
            _remove(new)


def _remove(file: Path) -> None:
    for end in ("", *BESIDE):
        Path(f"{file}{end}").unlink(missing_ok=True)

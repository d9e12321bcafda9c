"""The databases of a system, and their two kinds behind one interface."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from control_room.operations.backup import BackupError
from control_room.operations.backup.manifest import Kind
from control_room.operations.backup.postgresql import Postgresql
from control_room.operations.backup.sqlite import Sqlite
from control_room.operations.databases import SystemDatabase, databases_of
from shared.contract import services
from shared.urls import without_credentials


def system_databases(run_directory: Path, variables: Mapping[str, str]) -> list[SystemDatabase]:
    """Those that `order-rail up` uses, causes before effects: services by port, then outside systems.

    Raises DatabaseError.
    """
    found = databases_of(services(), variables, lambda name: f"sqlite:///{run_directory.absolute() / name}.db")
    return sorted(found, key=is_outside)


def is_outside(database: SystemDatabase) -> bool:
    """Whether it stands for an outside system, such as a simulated one."""
    return any(database.name == each.name for contract in services() for each in contract.further_databases)


class Snapshot(Protocol):
    """A database as it was at one moment. `server` and `revision`: as in `DatabaseCopy`."""

    server: int
    revision: str

    def write(self, file: Path) -> None:
        """Write the copy."""


class Store(Protocol):
    """A database of one kind. What it raises is turned into a BackupError by `explained`."""

    kind: Kind
    suffix: str

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The database as it is now, until the block ends."""
        ...

    def check_empty(self) -> None:
        """Raises BackupError if something would be overwritten."""

    def check_server(self, needed: int) -> None:
        """Raises BackupError if a copy that needs a server of this version can't be restored."""

    def restored(self, file: Path) -> AbstractContextManager[str]:
        """Restore; inside the block the URL of the database, which others may not see before the block has ended."""
        ...


def store_of(database: SystemDatabase) -> Store:
    return Sqlite(database) if database.url.startswith("sqlite:") else Postgresql(database)


@contextmanager
def explained(database: SystemDatabase) -> Iterator[None]:
    """Raises BackupError that says which database it was, and where."""
    try:
        yield
    except (BackupError, OSError) as error:
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise BackupError(f"{database.name} ({without_credentials(database.url)}): {why}") from error

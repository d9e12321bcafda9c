"""Makes a backup."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

from control_room.operations.backup import BackupError, manifest
from control_room.operations.backup.manifest import DatabaseCopy, Manifest
from control_room.operations.backup.stores import Snapshot, explained, store_of
from control_room.operations.databases import SystemDatabase


def take(databases: Sequence[SystemDatabase], directory: Path) -> Manifest:
    """Copy the databases into a new directory. If that fails, nothing is left of it. Raises BackupError."""
    _make(directory)
    try:
        return _copy(databases, directory)
    except BaseException as error:
        rmtree(directory, ignore_errors=True)
        if isinstance(error, OSError):
            raise BackupError(f"{error.filename or directory} can't be written: {error.strerror}") from error
        raise


def _make(directory: Path) -> None:
    try:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.chmod(0o700)
        else:
            directory.mkdir(mode=0o700)  # of its owner alone: it holds people's data
    except FileExistsError:
        raise BackupError(f"{directory} is not empty; name a new directory") from None
    except FileNotFoundError:
        raise BackupError(f"there is no {directory.parent}: is its disk mounted?") from None
    except OSError as error:
        raise BackupError(f"{directory} can't be made: {error.strerror}") from None


def _copy(databases: Sequence[SystemDatabase], directory: Path) -> Manifest:
    with ExitStack() as stack:
        snapshots: list[tuple[SystemDatabase, Snapshot]] = []
        read_at = datetime.now(UTC)
        for database in databases:
            with explained(database):
                snapshots.append((database, stack.enter_context(store_of(database).snapshot())))
        copies = tuple(_copied(database, snapshot, directory) for database, snapshot in snapshots)
    return manifest.write(directory, read_at, datetime.now(UTC), copies)


def _copied(database: SystemDatabase, snapshot: Snapshot, directory: Path) -> DatabaseCopy:
    store = store_of(database)
    file = f"{database.name}{store.suffix}"
    with explained(database):
        snapshot.write(directory / file)
    return DatabaseCopy(
        name=database.name, kind=store.kind, file=file, server=snapshot.server, revision=snapshot.revision
    )

"""Restores a backup into databases that are empty."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from control_room.operations.backup import BackupError, manifest
from control_room.operations.backup.manifest import DatabaseCopy, Manifest
from control_room.operations.backup.stores import Store, explained, is_outside, store_of
from control_room.operations.databases import SystemDatabase
from control_room.text import SYSTEM
from shared.persistence import milestones


class Step(NamedTuple):
    """A copy, and the database that it is to be restored into."""

    database: SystemDatabase
    store: Store
    copy: DatabaseCopy


def put_back(databases: Sequence[SystemDatabase], directory: Path, keep: Collection[str] = ()) -> Manifest:
    """Restore every database but those to `keep`. Nothing is written unless all can be. Raises BackupError."""
    backup = manifest.read(directory)
    steps = _steps(databases, backup, keep)
    for step in steps:
        with explained(step.database):
            _check(step)
    restored: list[str] = []
    restored_at = datetime.now(UTC)
    for step in steps:
        try:
            with explained(step.database), step.store.restored(directory / step.copy.file) as url:
                milestones.write(url, {milestones.RESTORED_TO: backup.read_at, milestones.RESTORED_AT: restored_at})
        except BackupError as error:
            raise BackupError(f"{error}{_undo(restored)}") from error
        restored.append(step.database.name)
    return backup


def _steps(databases: Sequence[SystemDatabase], backup: Manifest, keep: Collection[str]) -> list[Step]:
    here = {database.name: database for database in databases}
    if wrong := [name for name in keep if name in here and not is_outside(here[name])]:
        raise BackupError(f"--keep {wrong[0]}: only what stands for an outside system may be newer than the rest")
    if wrong := [name for name in keep if name not in (*here, *(copy.name for copy in backup.databases))]:
        raise BackupError(f"--keep {wrong[0]}: there is no such database, only {', '.join(here)}")
    copies = [copy for copy in backup.databases if copy.name not in keep]
    if unknown := [copy.name for copy in copies if copy.name not in here]:
        raise BackupError(
            f"the backup has a database {unknown[0]}, and this system has none: register its service, "
            f"or leave it out with --keep {unknown[0]}"
        )
    return [Step(here[copy.name], store_of(here[copy.name]), copy) for copy in copies]


def _check(step: Step) -> None:
    if step.store.kind != step.copy.kind:
        raise BackupError(f"the backup is of a {step.copy.kind} database, and this is {step.store.kind}")
    _check_revision(step)
    step.store.check_empty()
    step.store.check_server(step.copy.server)


def _check_revision(step: Step) -> None:
    """An older one is fine: `order-rail database upgrade` goes on from it."""
    from shared.persistence.migrations import History  # noqa: PLC0415 - most commands need no Alembic

    known = [migration.revision for migration in History.of(step.database.migrations).migrations]
    if step.copy.revision and step.copy.revision not in known:
        raise BackupError(
            f"a newer version of {SYSTEM} made the backup: its tables are at {step.copy.revision}, and this one "
            f"knows nothing after {known[-1]}; restore it with the newer one"
        )


def _undo(restored: Sequence[str]) -> str:
    if not restored:
        return ""
    names = ", ".join(restored)
    return f". Restored so far: {names}. Start nothing: empty those again, mend the cause, and restore anew"

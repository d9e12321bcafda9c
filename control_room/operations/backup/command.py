"""`order-rail backup` and `order-rail restore`: the commands."""

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from control_room.operations.backup import BackupError
from control_room.operations.backup.manifest import Manifest
from control_room.operations.backup.put_back import put_back
from control_room.operations.backup.stores import system_databases
from control_room.operations.backup.take import take
from control_room.operations.databases import DatabaseError, SystemDatabase
from control_room.text import SYSTEM

RunDirectoryOption = Annotated[Path, typer.Option(help="Where `order-rail up` keeps its data.")]


def backup_command(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="A new directory for the backup.")],
    run_directory: RunDirectoryOption = Path(".run"),
) -> None:
    """Copy all databases as they are now; the system may go on meanwhile.

    The databases are those that `order-rail up` uses with these environment variables. Exit status 1 if it failed, and
    then nothing is left of the backup.
    """
    with _failures_in_a_sentence("No backup was made"):
        made = take(system_databases(run_directory, os.environ), directory)
    for copy in made.databases:
        size = (directory / copy.file).stat().st_size
        typer.echo(f"{copy.name:22}{copy.kind:12}{size:>15,} bytes")
    typer.echo(f"Backed up to {directory}, as of {_moment(made)}.")


def restore_command(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="What `order-rail backup` has written.")],
    run_directory: RunDirectoryOption = Path(".run"),
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave this database as it is: one that stands for an outside system."),
    ] = None,
) -> None:
    """Restore a backup into empty databases, before the system is started.

    Exit status 1 if that is refused or fails; what is there already is never overwritten.
    """
    with _failures_in_a_sentence("Not restored"), _at_rest(run_directory):
        databases = system_databases(run_directory, os.environ)
        restored = put_back(databases, directory, keep or ())
    for line in _next_steps(restored, databases, keep or ()):
        typer.echo(line)


def _next_steps(restored: Manifest, databases: list[SystemDatabase], keep: Collection[str]) -> Iterator[str]:
    names = [copy.name for copy in restored.databases if copy.name not in keep]
    yield f"Restored {', '.join(names)}, as of {_moment(restored)}."
    if missing := [each.name for each in databases if each.name not in (*names, *keep)]:
        yield f"The backup has no {', '.join(missing)}: left as found."
    yield "Run `order-rail database upgrade`, start the system, and ask `order-rail audit` what was accepted later."


def _moment(manifest: Manifest) -> str:
    return f"{manifest.read_at:%Y-%m-%d %H:%M:%S} UTC"


@contextmanager
def _at_rest(run_directory: Path) -> Iterator[None]:
    """Raises BackupError if a system runs in the directory; while the block lasts none can be started there."""
    lock = run_directory / "lock"
    if not lock.exists():
        yield
        return
    with lock.open("r") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"{SYSTEM} runs in {run_directory}; stop it first") from None
        yield


@contextmanager
def _failures_in_a_sentence(what: str) -> Iterator[None]:
    try:
        yield
    except (BackupError, DatabaseError) as error:
        _fail(f"{what}: {error}")


def _fail(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)

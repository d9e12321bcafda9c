"""What a backup says of itself: `manifest.json`, and `SHA256SUMS`, which is written last and covers all other files."""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, StringConstraints, ValidationError
from pydantic_core import from_json

from control_room.operations.backup import BackupError
from control_room.operations.durable import to_disk
from control_room.text import SYSTEM

FORMAT = 1
MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"
_CHECKSUM = re.compile(r"([0-9a-f]{64})  ([\w.-]+)")  # as sha256sum writes and checks it

Kind = Literal["sqlite", "postgresql"]
FileName = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]


class DatabaseCopy(BaseModel):
    """One database. `server`: the PostgreSQL that can restore it, or a newer one. `revision`: of its tables."""

    name: str
    kind: Kind
    file: FileName
    server: int = 0
    revision: str = ""


class Manifest(BaseModel):
    """`read_at`: the moment at which the first service's database was read."""

    format: int = FORMAT
    read_at: AwareDatetime
    finished_at: AwareDatetime
    databases: tuple[DatabaseCopy, ...]


def write(directory: Path, read_at: datetime, finished_at: datetime, databases: tuple[DatabaseCopy, ...]) -> Manifest:
    """Describe the files that are in the directory, and finish the backup. Raises OSError."""
    manifest = Manifest(read_at=read_at, finished_at=finished_at, databases=databases)
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    names = [*(database.file for database in databases), MANIFEST]
    lines = [f"{_checksum(directory / name)}  {name}\n" for name in names]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="ascii")
    for path in (*(directory / name for name in (*names, CHECKSUMS)), directory):
        to_disk(path)
    return manifest


def read(directory: Path) -> Manifest:
    """The manifest of a backup that is whole. Raises BackupError."""
    if not directory.exists():
        raise BackupError(f"there is no {directory}")
    if not directory.is_dir():
        raise BackupError(f"{directory} is no directory; expected one that `order-rail backup` has written")
    try:
        checksums = _checksums(directory)
        _check_files(directory, checksums)
        return _checked(directory, from_json((directory / MANIFEST).read_bytes()), checksums)
    except OSError as error:
        raise BackupError(f"{error.filename or directory} can't be read: {error.strerror}") from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BackupError(f"{directory / MANIFEST} is of no backup: {where}: {error.errors()[0]['msg']}") from None
    except ValueError as error:
        raise BackupError(f"{directory / MANIFEST} is of no backup: {error}") from None


def _checksums(directory: Path) -> Mapping[str, str]:
    """By file name."""
    if not (directory / CHECKSUMS).is_file():
        if (directory / MANIFEST).exists() or any(directory.glob("*.sqlite")) or any(directory.glob("*.dump")):
            raise BackupError(f"{directory} is a backup that was not finished: it has no {CHECKSUMS}. Use another one")
        raise BackupError(f"{directory} is no backup: it has no {CHECKSUMS}")
    lines = (directory / CHECKSUMS).read_text(encoding="ascii", errors="replace").splitlines()
    matches = [_CHECKSUM.fullmatch(line) for line in lines]
    found = {match[2]: match[1] for match in matches if match}
    if len(found) < len(lines) or MANIFEST not in found:
        raise BackupError(f"{directory / CHECKSUMS} is damaged. Use another backup")
    return found


def _check_files(directory: Path, checksums: Mapping[str, str]) -> None:
    for name, expected in checksums.items():
        if not (directory / name).is_file():
            raise BackupError(f"{directory / name} is missing. Use another backup")
        if _checksum(directory / name) != expected:
            raise BackupError(f"{directory / name} is damaged: {CHECKSUMS} has another SHA-256. Use another backup")


def _checked(directory: Path, content: Any, checksums: Mapping[str, str]) -> Manifest:
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise BackupError(f"{directory} was made by a newer version of {SYSTEM}; restore it with that one")
    manifest = Manifest.model_validate(content)
    if unknown := [each.file for each in manifest.databases if each.file not in checksums]:
        raise BackupError(f"{directory / CHECKSUMS} does not have {', '.join(unknown)}. Use another backup")
    return manifest


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

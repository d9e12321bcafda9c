"""The checkout that is written into: a git work tree with nothing uncommitted, which this `order-rail` belongs to."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from control_room.text import SYSTEM
from shared.contract import GROUP, ServiceContract

ROOT = Path(__file__).parents[2]
EXAMPLES = "tests/examples"
NAMES_A_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")


class Refused(Exception):
    """Nothing was written; the message says why, and what to do."""


def checkout() -> Path:
    """The root of the checkout around the current directory. Raises `Refused` if there is none, or it is not clean."""
    try:
        root = Path(git("rev-parse", "--show-toplevel"))
    except Refused as refused:
        raise Refused(f"this needs a clone of {SYSTEM}, and {refused}") from None
    if not (root / EXAMPLES).is_dir() or not (root / "control_room").is_dir():
        raise Refused(f"{root} is no checkout of {SYSTEM}: clone it, and run this in the clone")
    if root != ROOT.resolve():
        raise Refused(f"this order-rail belongs to {ROOT}; use the one in {root}/.venv/bin (`make up` makes it)")
    if changed := git("status", "--porcelain"):
        raise Refused(
            f"there are uncommitted changes ({changed.splitlines()[0].strip()}, ...): commit or stash them, so that "
            "`git diff` shows what is generated, and `git checkout . && git clean -fd` takes it back"
        )
    return root


def check_registered(root: Path, registered: Iterable[ServiceContract]) -> None:
    """Raises `Refused` if a service was written and not registered: the next one would not know of it."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if missing := project["entry-points"][GROUP].keys() - {contract.name for contract in registered}:
        raise Refused(f"{', '.join(sorted(missing))} is not registered yet: `make generate`, and commit what it writes")


def written(root: Path, files: Mapping[str, str], edits: Mapping[str, str]) -> bool:
    """Write new files, and existing ones anew, as `write_all`; whether they were put into the code's format."""
    write_all(root, files, edits)
    return _formatted(root, [file for file in (*files, *edits) if file.endswith(".py")])


def _formatted(root: Path, files: Sequence[str]) -> bool:
    """Sort names and break long lines: they have other places and lengths now. False where ruff is not installed."""
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        return False
    for command in (["check", "--fix", "--select", "I,RUF022"], ["format"]):
        subprocess.run([ruff, *command, "--quiet", *files], cwd=root, check=False)  # noqa: S603
    return True


def git(*arguments: str, at: Path | None = None) -> str:
    """What git says, at a folder or here. Raises `Refused` if it fails."""
    command, environment = ["git", *arguments], _environment()
    try:
        found = subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise Refused("git is not installed") from None
    if found.returncode:  # no repository here, or one that git does not trust
        raise Refused(f"git says: {found.stderr.strip()}")
    return found.stdout.strip()


def _environment() -> dict[str, str]:
    """This process's, without what names a repository other than that of the folder: git sets it for its hooks."""
    return {name: value for name, value in os.environ.items() if name not in NAMES_A_REPOSITORY}


def write_all(root: Path, files: Mapping[str, str], edits: Mapping[str, str]) -> None:
    """Write new files, and existing ones anew: all or, if a new one exists or can't be written, none. `Refused`."""
    if existing := [name for name in files if (root / name).exists()]:
        raise Refused(f"{existing[0]} exists already")
    before = {name: (root / name).read_text(encoding="utf-8") for name in edits}
    try:
        _write(root, {**files, **edits})
    except OSError as error:
        for file in (root / name for name in files):
            if file.exists():
                file.unlink()
        _write(root, before)
        raise Refused(f"{error.filename} can't be written: {error.strerror}") from None


def _write(root: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")

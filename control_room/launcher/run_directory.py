"""The directory of one running system: its lock, its data, its logs, and the file `environment` with its addresses."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from control_room.launcher import LaunchError
from control_room.text import SYSTEM
from shared.settings import checked_token


class RunDirectory:
    """Paths inside the directory. Creates it, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.environment_file = self.path / "environment"

    @property
    def holds_data(self) -> bool:
        """Whether a system has kept data in here."""
        return any(self.path.glob("*.db"))

    def remove_data(self) -> None:
        """Remove the databases and the broker's data; logs and reports stay."""
        shutil.rmtree(self.path / "rabbitmq", ignore_errors=True)
        for file in self.path.glob("*.db*"):
            file.unlink()

    def log(self, name: str) -> Path:
        """The file for the output of a process."""
        return self.path / f"{name}.log"

    def sqlite_url(self, name: str) -> str:
        """The SQLAlchemy URL of a SQLite file in here."""
        return f"sqlite:///{self.path / name}.db"

    def operator_token(self) -> str:
        """The token of earlier starts in here, so that open pages and bookmarks keep their right; else a new one.

        A new one also replaces a file that holds no token. The file is readable by its owner alone.
        """
        file = self.path / "operator-token"
        try:
            if token := checked_token(file.read_text(encoding="ascii").strip()):
                return token
        except (FileNotFoundError, ValueError):
            pass
        token = secrets.token_urlsafe(24)
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(f"{token}\n", encoding="ascii")
        new.replace(file)
        return token

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory; the lock ends with the process, however that ends. LaunchError if another has it."""
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise LaunchError(
                    f"{SYSTEM} already runs in {self.path} (process {lock.read().strip() or 'unknown'}). "
                    "Stop it there, or choose another place with --run-directory."
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

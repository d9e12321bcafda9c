"""The directory of one running system: its lock, its data, its logs, and the file with its addresses."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from control_room.launcher import LaunchError
from control_room.operations.environment_file import write_variables


class AlreadyRunningError(LaunchError):
    """Another launcher, the process `pid`, uses the directory."""

    def __init__(self, directory: Path, pid: str) -> None:
        super().__init__(
            f"Order Rail already runs in {directory} (process {pid or 'unknown'}). "
            "Stop it there, or choose another place with --run-directory."
        )
        self.directory, self.pid = directory, pid


class RunDirectory:
    """Paths inside the directory. Creates it, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.environment_file = self.path / "environment"

    @property
    def holds_data(self) -> bool:
        """Whether a system has kept orders in here."""
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory; the lock ends with the process, however that ends. AlreadyRunningError if it is held."""
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise AlreadyRunningError(self.path, lock.read().strip()) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """Write the file with the addresses. Raises Unwritable, OSError."""
        write_variables(self.environment_file, variables)

    def remove_environment(self) -> None:
        """Remove the file with the addresses: nothing runs here."""
        self.environment_file.unlink(missing_ok=True)

"""A private PostgreSQL cluster, run from installed server binaries: own data, own port, loopback only."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from control_room.launcher.children import death_pact
from control_room.launcher.ports import free_ports

START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 15
ADMINISTRATOR = "order_rail"

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Few tests are about durability, and an fsync is most of what they would wait for."""


class PostgresNotInstalled(Exception):
    """No server binaries were found."""


class PrivatePostgres:
    """Starts with `with`; every test takes a database of its own from `create_database`.

    `settings` are added to PostgreSQL's own, with which each commit is durable. `parent` holds its folder.
    """

    def __init__(self, settings: Mapping[str, str] = QUICK, parent: Path | None = None) -> None:
        self.binaries, self._settings = _find_binaries(), settings
        # Not pytest's directory: PostgreSQL refuses to run as root, and nobody else may enter that one.
        self._directory = Path(tempfile.mkdtemp(prefix="order-rail-pg-", dir=parent))
        self._account: dict[str, Any] = unprivileged_account(self._directory)
        (self.port,) = free_ports(1)
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PrivatePostgres":
        self._run("initdb", "--pgdata", str(self._data), "--username", ADMINISTRATOR, "--auth", "trust",
                  "--encoding", "UTF8", "--locale", "C", "--no-sync")  # fmt: skip
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self._directory)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self._data), "-h", "127.0.0.1", *options]
        with self._log.open("ab") as log:  # opened by us: the server only writes to what it is given
            self._server = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._account,
                preexec_fn=death_pact(signal.SIGQUIT),  # noqa: PLW1509 - nothing is imported or locked in it
            )  # fmt: skip
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Fast shutdown: clients are disconnected, data is kept."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(STOP_TIMEOUT_SECONDS)
            self._server = None

    @property
    def is_running(self) -> bool:
        return self._server is not None

    @property
    def pid(self) -> int:
        """The server's process, the parent of those that work for the clients."""
        assert self._server is not None
        return self._server.pid

    def url(self, database: str) -> str:
        """As a service takes it in DATABASE_URL."""
        return f"postgresql://{ADMINISTRATOR}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # a parameter may not stand there
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Delete what `create_database` made; those who are connected to it are cut off."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / program, *arguments], cwd=self._directory, capture_output=True, text=True, check=False,
            **self._account,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{program} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=1).close()
                return
            except psycopg.OperationalError as error:
                ended = self._server is None or self._server.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL does not answer: {error}\n{self._log.read_text()}") from error
            time.sleep(0.05)


@contextmanager
def read_only(*urls: str) -> Iterator[None]:
    """While the block lasts the databases refuse writes, as the old primary does after a failover.

    Connections made meanwhile go on refusing them afterwards.
    """
    names = [url.rpartition("/")[2] for url in urls]
    with psycopg.connect(urls[0].replace(names[0], "postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s)", [names])
        yield
        for name in names:
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def _find_binaries() -> Path:
    """The folder of `initdb` and `postgres`, which Debian keeps out of PATH. PostgresNotInstalled if there is none."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    if shutil.which("pg_config"):
        asked = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
        folders.insert(0, Path(asked.stdout.strip()))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [found for brew in ("/opt/homebrew", "/usr/local") for found in Path(brew).glob("opt/postgresql*/bin")]
    for folder in folders:
        if all((folder / program).is_file() for program in ("initdb", "postgres")):
            return folder
    raise PostgresNotInstalled("no PostgreSQL server (initdb, postgres) was found: install the package postgresql")


def unprivileged_account(directory: Path) -> dict[str, Any]:
    """How to start a process that PostgreSQL accepts: root must become somebody else, who then owns `directory`."""
    if os.geteuid() != 0:
        return {}
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    os.chown(directory, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

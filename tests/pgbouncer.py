"""A private PgBouncer in transaction mode in front of a PostgreSQL: own port, loopback only."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from control_room.launcher.children import death_pact
from control_room.launcher.ports import free_ports
from tests.postgres import ADMINISTRATOR, unprivileged_account

POOL_CONNECTIONS = 3
"""Fewer than the clients, so that they have to share and each transaction may meet another server process."""


class PrivatePgBouncer:
    """Starts with `with`."""

    def __init__(self, postgres_port: int) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            if os.environ.get("CI"):
                raise RuntimeError("pgbouncer is not installed")
            pytest.skip("pgbouncer is not installed")
        self._program = program
        self._directory = Path(tempfile.mkdtemp(prefix="order-rail-pgbouncer-"))
        self._account = unprivileged_account(self._directory)
        (self.port,) = free_ports(1)
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "any",
            "pool_mode": "transaction", "default_pool_size": POOL_CONNECTIONS, "max_client_conn": 200,
        }  # fmt: skip
        lines = ["[databases]", f"* = host=127.0.0.1 port={postgres_port} user={ADMINISTRATOR}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        self._file = self._directory / "pgbouncer.ini"
        self._file.write_text("\n".join(lines))

    def __enter__(self) -> "PrivatePgBouncer":
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._file)], cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, **self._account,
                preexec_fn=death_pact(signal.SIGINT),  # noqa: PLW1509 - nothing is imported or locked in it
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(15)
        shutil.rmtree(self._directory, ignore_errors=True)

    def url(self, database_url: str) -> str:
        """The URL of the same database by way of the pooler."""
        return urlsplit(database_url)._replace(netloc=f"{ADMINISTRATOR}@127.0.0.1:{self.port}").geturl()

"""The scripts for containers, `deploy/postgres`, write and read the same backups as `order-rail` does."""

import asyncio
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from control_room.operations.backup.put_back import put_back
from control_room.operations.backup.stores import system_databases
from control_room.operations.backup.take import take
from control_room.operations.databases import SystemDatabase, upgrade
from shared.contract import services
from tests.postgres import ADMINISTRATOR, PrivatePostgres

SCRIPTS = Path(__file__).parents[2] / "deploy" / "postgres"
NAMES = [database.name for database in system_databases(Path(), {})]


class Server:
    """Databases as `create-databases.sh` makes them: each belongs to a user of its own name."""

    def __init__(self, postgres: PrivatePostgres) -> None:
        self._postgres = postgres

    def begin_anew(self) -> None:
        """Nothing is left in the databases."""
        self.remove()
        with psycopg.connect(self._postgres.url("postgres"), autocommit=True) as connection:
            for name in NAMES:
                connection.execute(f"CREATE USER {name}")
                connection.execute(f"CREATE DATABASE {name} OWNER {name}")

    def remove(self) -> None:
        with psycopg.connect(self._postgres.url("postgres"), autocommit=True) as connection:
            for name in NAMES:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                connection.execute(f"DROP USER IF EXISTS {name}")

    def url(self, name: str) -> str:
        return self._postgres.url(name).replace(f"{ADMINISTRATOR}@", f"{name}@")

    @property
    def databases(self) -> list[SystemDatabase]:
        variables = {contract.variable("DATABASE_URL"): self.url(contract.name) for contract in services()}
        return system_databases(Path(), variables | {"GATEWAY_URL": f"simulated+{self.url('gateway')}"})

    def script(self, name: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run it as it runs in the container."""
        path = f"{self._postgres.binaries}{os.pathsep}{os.environ['PATH']}"
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self._postgres.port), "POSTGRES_USER": ADMINISTRATOR}
        environment = {**os.environ, **where, "PATH": path, "DATABASES": " ".join(NAMES)}
        return subprocess.run(["bash", SCRIPTS / name], input=given, env=environment, capture_output=True, check=False)

    @property
    def keys(self) -> list[str]:
        with psycopg.connect(self.url("order_service")) as connection:
            return [key for (key,) in connection.execute("SELECT key FROM idempotency_keys").fetchall()]

    def milestones(self, database: str) -> dict[str, object]:
        with psycopg.connect(self.url(database)) as connection:
            return dict(connection.execute("SELECT name, at FROM milestones").fetchall())


@pytest.fixture(scope="module")
def server(postgres: PrivatePostgres) -> Iterator[Server]:
    """Databases with the tables of this version, and a row."""
    made = Server(postgres)
    made.begin_anew()
    asyncio.run(upgrade(made.databases, report=lambda _line: None))
    with psycopg.connect(made.url("order_service")) as connection:
        connection.execute("INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES ('k', 'f', 'o')")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def scripted(server: Server) -> bytes:
    """A backup by the script, as a tar file."""
    done = server.script("backup.sh")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def native(server: Server, scripted: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup by the command."""
    directory = tmp_path_factory.mktemp("backups") / "native"
    take(server.databases, directory)
    return directory


def tar_of(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(directory, ".")
    return buffer.getvalue()


def unpacked(tar: bytes, directory: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        opened.extractall(directory, filter="data")
    return directory


def test_what_the_script_wrote_the_command_restores(
    server: Server, scripted: bytes, native: Path, tmp_path: Path
) -> None:
    server.begin_anew()
    manifest = put_back(server.databases, unpacked(scripted, tmp_path / "backup"))
    assert [copy.name for copy in manifest.databases] == NAMES
    assert all(copy.revision.startswith(copy.name) for copy in manifest.databases)
    assert server.keys == ["k"]
    assert server.milestones("order_service")["restored_to"] == manifest.read_at


@pytest.mark.parametrize("made_by", ["script", "command"])
def test_the_script_restores_what_both_wrote(made_by: str, server: Server, scripted: bytes, native: Path) -> None:
    server.begin_anew()
    done = server.script("restore.sh", scripted if made_by == "script" else tar_of(native))
    assert done.returncode == 0, done.stderr
    assert server.keys == ["k"]
    for name in NAMES:
        reached = server.milestones(name)
        assert str(reached["restored_to"]) < str(reached["restored_at"])
    asyncio.run(upgrade(server.databases, report=pytest.fail))


def test_the_script_refuses_what_it_should(server: Server, scripted: bytes, tmp_path: Path) -> None:
    server.begin_anew()
    half = unpacked(scripted, tmp_path / "half")
    (half / "SHA256SUMS").unlink()
    damaged = unpacked(scripted, tmp_path / "damaged")
    (damaged / "gateway.dump").write_bytes(b"x")
    with psycopg.connect(server.url("payment_service"), autocommit=True) as service:
        refused = {
            "this is no tar file": server.script("restore.sh", b"no tar file"),
            "was not finished": server.script("restore.sh", tar_of(half)),
            "the backup is damaged": server.script("restore.sh", tar_of(damaged)),
            "the database payment_service is in use, by 1 connections": server.script("restore.sh", scripted),
        }
        service.execute("CREATE TABLE things (name text)")
    refused["payment_service is not empty: it has the tables things"] = server.script("restore.sh", scripted)
    for why, done in refused.items():
        assert done.returncode == 1
        assert why in done.stderr.decode()
    with psycopg.connect(server.url("order_service")) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_the_script_writes_nothing_if_a_database_is_not_there(server: Server, postgres: PrivatePostgres) -> None:
    server.begin_anew()
    postgres.drop_database(server.url("gateway"))
    done = server.script("backup.sh")
    assert done.returncode != 0
    assert 'database "gateway" does not exist' in done.stderr.decode()
    assert done.stdout == b""

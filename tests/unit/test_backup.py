"""A backup holds every database as it was at one moment; it is restored whole, into empty databases, or refused."""

import asyncio
import fcntl
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from control_room.operations.backup import BackupError, postgresql
from control_room.operations.backup.manifest import CHECKSUMS, MANIFEST, Manifest
from control_room.operations.backup.put_back import put_back
from control_room.operations.backup.stores import Store, store_of, system_databases
from control_room.operations.backup.take import take
from control_room.operations.databases import SystemDatabase, upgrade
from shared.contract import services
from shared.persistence.backends import backend_of
from tests.postgres import PrivatePostgres

NAMES = [
    *(service.name for service in services()),
    *(ledger.name for each in services() for ledger in each.further_databases),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a system that is not running."""
    directory = tmp_path_factory.mktemp("run")
    asyncio.run(upgrade(system_databases(directory, {}), report=lambda _line: None))
    with closing(sqlite3.connect(directory / "order_service.db")) as orders:
        orders.execute("INSERT INTO idempotency_keys (key, fingerprint, order_id) VALUES ('k', 'f', 'o')")
        orders.commit()
    return directory


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    directory = tmp_path_factory.mktemp("backups") / "monday"
    return directory, take(system_databases(run, {}), directory)


@pytest.fixture
def backup(made: tuple[Path, Manifest], tmp_path: Path) -> Path:
    """A backup that a test may damage."""
    return Path(shutil.copytree(made[0], tmp_path / "backup"))


@pytest.fixture
def new(tmp_path: Path) -> list[SystemDatabase]:
    """The databases of a system that was never started."""
    return system_databases(tmp_path / "new", {})


@pytest.fixture
def store(database_url: str) -> Store:
    """A database of each kind, with a table `things` and a row in it."""
    engine = backend_of(database_url).engine
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE things (name VARCHAR PRIMARY KEY)"))
        connection.execute(text("INSERT INTO things VALUES ('before')"))
    engine.dispose()
    return store_of(SystemDatabase("order_service", database_url, "order_service.migrations"))


def rows(file: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def change_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As if it had been made so: its checksum is right."""
    manifest = json.loads((directory / MANIFEST).read_text())
    change(manifest)
    (directory / MANIFEST).write_text(json.dumps(manifest))
    names = sorted(each.name for each in directory.iterdir() if each.name != CHECKSUMS)
    sums = subprocess.run(["sha256sum", "--", *names], cwd=directory, check=True, capture_output=True, text=True)
    (directory / CHECKSUMS).write_text(sums.stdout)


def copy_of(manifest: dict[str, Any], position: int) -> dict[str, object]:
    copy: dict[str, object] = manifest["databases"][position]
    return copy


def test_all_databases_are_restored_with_the_moment_of_the_backup(
    made: tuple[Path, Manifest], backup: Path, new: list[SystemDatabase], run: Path, tmp_path: Path
) -> None:
    put_back(new, backup)

    assert [copy.name for copy in made[1].databases] == NAMES
    assert rows(tmp_path / "new" / "order_service.db", "idempotency_keys") == [("k", "f", "o")]
    for name in NAMES:
        restored = tmp_path / "new" / f"{name}.db"
        assert rows(restored, "alembic_version") == rows(run / f"{name}.db", "alembic_version")
        (_, at), (_, to) = rows(restored, "milestones")
        assert str(to) == made[1].read_at.strftime("%Y-%m-%d %H:%M:%S.%f")
        assert str(at) > str(to)
    assert not list((tmp_path / "new").glob("*restoring*"))


def test_sha256sum_finds_a_backup_whole(backup: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", CHECKSUMS], cwd=backup, check=True)
    assert backup.stat().st_mode & 0o077 == 0


def test_a_copy_is_of_the_moment_of_its_snapshot(store: Store, database_url: str, tmp_path: Path) -> None:
    with store.snapshot() as snapshot:
        engine = backend_of(database_url).engine
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO things VALUES ('after')"))
        engine.dispose()
        snapshot.write(tmp_path / "copy")
    if database_url.startswith("sqlite"):
        assert rows(tmp_path / "copy", "things") == [("before",)]
    else:
        listed = subprocess.run(
            ["pg_restore", "--data-only", "--file=-", tmp_path / "copy"], check=True, capture_output=True, text=True
        ).stdout
        assert "before" in listed
        assert "after" not in listed


def test_a_database_that_is_not_there_leaves_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"order_service \(.*\): there is no .*order_service.db"):
        take(system_databases(tmp_path / "nothing", {}), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_file_that_is_no_database_leaves_no_backup(run: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    (broken / "payment_service.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(BackupError, match=r"payment_service .*file is not a database"):
        take(system_databases(broken, {}), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_damaged_database_leaves_no_backup(run: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    with (broken / "gateway.db").open("r+b") as file:
        file.seek(4096)  # the second page
        file.write(b"\xff" * 4096)
    with pytest.raises(BackupError, match=r"gateway .*(damaged|malformed)"):
        take(system_databases(broken, {}), tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_backup_needs_a_new_directory_on_a_disk_that_is_there(run: Path, backup: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="backup is not empty; name a new directory"):
        take(system_databases(run, {}), backup)
    with pytest.raises(BackupError, match=r"there is no .*disk: is its disk mounted"):
        take(system_databases(run, {}), tmp_path / "disk" / "backup")
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="file is not empty"):
        take(system_databases(run, {}), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    take(system_databases(run, {}), tmp_path / "empty")


def test_a_full_disk_leaves_no_backup(run: Path, tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    code = f"{limited}; from control_room.cli import app; app()"
    arguments = ("backup", str(tmp_path / "backup"), "--run-directory", str(run))
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("No backup was made: order_service (")
    assert not (tmp_path / "backup").exists()


def _cut(backup: Path) -> None:
    file = backup / "payment_service.sqlite"
    file.write_bytes(file.read_bytes()[:-1])


def _empty(backup: Path) -> None:
    for each in backup.iterdir():
        each.unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file was cut": (_cut, "payment_service.sqlite is damaged"),
    "a file is gone": (lambda backup: (backup / "gateway.sqlite").unlink(), "gateway.sqlite is missing"),
    "not finished": (lambda backup: (backup / CHECKSUMS).unlink(), "not finished: it has no SHA256SUMS"),
    "checksums cut": (lambda backup: (backup / CHECKSUMS).write_text("abc"), "SHA256SUMS is damaged"),
    "a manifest changed": (lambda backup: (backup / MANIFEST).write_text("{}"), "manifest.json is damaged"),
    "nothing there": (shutil.rmtree, "there is no .*backup"),
    "something else": (_empty, "is no backup"),
    "another program's": (lambda backup: change_manifest(backup, dict.clear), "manifest.json is of no backup: read_at"),
    "a newer format": (lambda backup: change_manifest(backup, lambda m: m.update(format=2)), "newer version"),
    "newer tables": (
        lambda backup: change_manifest(backup, lambda m: copy_of(m, 0).update(revision="order_service_9999")),
        "order_service .*newer version .*order_service_9999.*restore it with the newer one",
    ),
    "one database more": (
        lambda backup: change_manifest(backup, lambda m: copy_of(m, -1).update(name="loyalty")),
        "has a database loyalty, and this system has none",
    ),
    "another kind": (
        lambda backup: change_manifest(backup, lambda m: copy_of(m, 1).update(kind="postgresql")),
        "the backup is of a postgresql database, and this is sqlite",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_backup_that_can_not_be_trusted_is_refused(
    damage: str, backup: Path, new: list[SystemDatabase], tmp_path: Path
) -> None:
    spoil, message = DAMAGES[damage]
    spoil(backup)
    with pytest.raises(BackupError, match=message):
        put_back(new, backup)
    assert not (tmp_path / "new").exists()


def test_a_backup_of_older_tables_is_restored(backup: Path, new: list[SystemDatabase]) -> None:
    change_manifest(backup, lambda manifest: copy_of(manifest, 0).update(revision=""))
    put_back(new, backup)
    asyncio.run(upgrade(new, report=lambda _line: None))


@pytest.mark.parametrize("name", ["notification_service.db", "notification_service.db-wal"])
def test_living_data_are_never_overwritten(name: str, backup: Path, new: list[SystemDatabase], tmp_path: Path) -> None:
    """Nor is a file left that belonged to another database: SQLite would apply what is in it to this one."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / name).write_text("alive")
    with pytest.raises(BackupError, match=f"{name} is there already: stop the system"):
        put_back(new, backup)
    assert [each.name for each in (tmp_path / "new").iterdir()] == [name]


def test_what_a_killed_restore_has_left_is_not_applied(backup: Path, new: list[SystemDatabase], tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE others AS SELECT 1 AS one")
        other.commit()
        shutil.copy(tmp_path / "other.db-wal", tmp_path / "new" / "order_service.db.restoring-wal")
    put_back(new, backup)
    assert rows(tmp_path / "new" / "order_service.db", "idempotency_keys") == [("k", "f", "o")]


def test_a_system_that_runs_is_not_restored(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = subprocess.run(
            [sys.executable, "-c", "from control_room.cli import app; app()",
             "restore", str(backup), "--run-directory", str(tmp_path / "run")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert "Not restored: Order Rail runs in" in ended.stderr


def test_a_failure_half_way_says_what_is_restored_already(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    variables = {"PAYMENT_SERVICE_DATABASE_URL": f"sqlite:///{tmp_path}/file/payments.db"}
    databases = system_databases(tmp_path / "new", variables)
    with pytest.raises(BackupError, match=r"payment_service .*Restored so far: order_service\. Start nothing"):
        put_back(databases, backup)


def test_only_an_outside_systems_database_may_be_kept(backup: Path, new: list[SystemDatabase], tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="--keep payment_service: only what stands for an outside system"):
        put_back(new, backup, ["payment_service"])
    with pytest.raises(BackupError, match="--keep ledger: there is no such database, only order_service, payment"):
        put_back(new, backup, ["ledger"])
    put_back(new, backup, ["gateway"])
    assert not (tmp_path / "new" / "gateway.db").exists()


def test_a_postgresql_that_is_not_empty_or_in_use_is_refused(postgres: PrivatePostgres) -> None:
    url = postgres.create_database()
    store = store_of(SystemDatabase("order_service", url, "order_service.migrations"))
    with psycopg.connect(url, autocommit=True) as service:
        with pytest.raises(BackupError, match="in use, by 1 connections"):
            store.check_empty()
        service.execute("CREATE TABLE things (name text)")
    with pytest.raises(BackupError, match="not empty: it has the table things"):
        store.check_empty()


def test_postgresqls_programs_must_be_there_and_fit_the_server(
    postgres: PrivatePostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(SystemDatabase("order_service", postgres.create_database(), "order_service.migrations"))
    with pytest.raises(BackupError, match="the backup needs PostgreSQL 99, and this server is older"):
        store.check_server(99)
    monkeypatch.setattr(postgresql, "FOLDERS", ())
    programs(tmp_path, 9)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(BackupError, match=r"pg_dump is of PostgreSQL 9, older than the server"), store.snapshot():
        pass
    with pytest.raises(BackupError, match=r"pg_restore is of PostgreSQL 9, older than the server"):
        store.check_server(9)
    programs(tmp_path, 99)
    with store.snapshot() as snapshot:
        assert snapshot.server == 99
    with pytest.raises(BackupError, match="pg_restore is of PostgreSQL 99, newer than the server"):
        store.check_server(9)
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(BackupError, match=r"pg_dump is not installed; .*postgresql-client"), store.snapshot():
        pass


def programs(folder: Path, major: int) -> None:
    """Programs that say that they are of this version."""
    for name in ("pg_dump", "pg_restore"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.1'\n")
        (folder / name).chmod(0o755)


def test_a_postgresql_that_is_away_is_said_without_its_password() -> None:
    url = "postgresql://order_service:secret@127.0.0.1:1/order_service"
    store = store_of(SystemDatabase("order_service", url, "order_service.migrations"))
    with pytest.raises(BackupError, match="refused") as failed, store.snapshot():
        pass
    assert "secret" not in str(failed.value)

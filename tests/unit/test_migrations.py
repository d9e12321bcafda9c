"""Migrations: they make the tables that the code expects, of nothing and of older databases, and refuse other ones."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData

import payment_service.gateways.simulated.store
from control_room.operations.databases import SystemDatabase, databases_of, upgrade
from shared.contract import services
from shared.persistence import backends, schema
from shared.persistence.backends import backend_of
from shared.persistence.migrations import History, MigrationFailed, NotYet
from tests.before_migrations import DATA, restore
from tests.pgbouncer import PrivatePgBouncer
from tests.postgres import PrivatePostgres
from tests.support import create_tables

DATABASES = {each.name: each for each in databases_of(services(), {}, "sqlite:///{}".format)}
METADATA: dict[str, MetaData] = {
    **{service.name: import_module(f"{service.name}.store").metadata for service in services()},
    "gateway": payment_service.gateways.simulated.store.metadata,
}
INDEXES = {
    "sqlite": "SELECT coalesce(sql, name) FROM sqlite_master WHERE type = 'index' AND tbl_name != 'alembic_version'",
    "postgresql": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename != 'alembic_version'",
}


@pytest.fixture
def other_url(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A second database of the same kind."""
    if database_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'other.db'}"
    server: PrivatePostgres = request.getfixturevalue("postgres")
    return server.create_database()


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = backend_of(url).engine
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def run(url: str, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def tables(url: str) -> set[str]:
    with connected(url) as connection:
        return set(sqlalchemy.inspect(connection).get_table_names())


def history(name: str = "order_service") -> History:
    return History.of(DATABASES[name].migrations)


def default_differs(_context: MigrationContext, _found: Any, expected: Any, *_: Any) -> bool | None:
    """For SQLite, which numbers rows by itself and reports no identity; the rest is Alembic's own comparison."""
    return False if expected.identity is not None else None


def differences(url: str, metadata: MetaData) -> Any:
    """What `alembic check` would find, but for an index that the metadata has as text."""
    expected = MetaData()
    for each in (metadata, schema.every_database):
        for table in each.sorted_tables:
            table.to_metadata(expected)
    defaults = default_differs if url.startswith("sqlite") else True
    options = {"compare_server_default": defaults, "include_name": lambda name, *_: name != "open_orders"}
    with connected(url) as connection:
        return compare_metadata(MigrationContext.configure(connection, opts=options), expected)


def indexes(url: str) -> set[str]:
    with connected(url) as connection:
        return {row[0] for row in connection.exec_driver_sql(INDEXES[connection.dialect.name])}


@pytest.mark.parametrize(
    ("name", "is_old"),
    [*product(DATABASES, [False]), *((name, True) for name in DATABASES if (DATA / f"{name}.sqlite.sql").exists())],
)
def test_they_make_the_tables_that_the_code_expects(database_url: str, other_url: str, name: str, is_old: bool) -> None:
    if is_old:
        restore(name, database_url)
    expected = [f"{name}_{number:04}" for number in range(1, len(history(name).migrations) + 1)]
    assert [each.revision for each in history(name).upgrade(database_url)] == expected
    create_tables(other_url, METADATA[name])
    assert differences(database_url, METADATA[name]) == []
    assert indexes(database_url) == indexes(other_url)
    assert history(name).pending(database_url) == history(name).upgrade(database_url) == []


def test_tables_of_the_last_version_without_migrations_stay_as_they_are(database_url: str) -> None:
    create_tables(database_url, METADATA["order_service"])
    run(database_url, "INSERT INTO duplicates VALUES ('an-order', 3)")
    history().upgrade(database_url)
    with connected(database_url) as connection:
        assert connection.exec_driver_sql("SELECT times FROM duplicates").scalar_one() == 3
    assert differences(database_url, METADATA["order_service"]) == []


@pytest.mark.parametrize("name", DATABASES)
def test_the_version_before_can_write_after_each_of_them(database_url: str, name: str, tmp_path: Path) -> None:
    """Expand, then contract: nothing goes away or becomes another, and a new column needs no value."""
    copy = tmp_path / "history/versions"
    before: dict[tuple[str, str], Any] = {}
    copy.mkdir(parents=True)
    (folder,) = Path(__file__).parents[2].glob(f"{DATABASES[name].migrations.replace('.', '/')}/versions")
    for file in sorted(folder.glob("*.py")):
        shutil.copy(file, copy)
        (ran,) = History(copy.parent).upgrade(database_url)
        with connected(database_url) as connection:
            found = sqlalchemy.inspect(connection).get_multi_columns()
        now = {(table, each["name"]): each for (_, table), columns in found.items() for each in columns}
        same = {key: str(each["type"]) == str(now[key]["type"]) for key, each in before.items() if key in now}
        assert before.keys() <= {key for key, is_same in same.items() if is_same}, ran
        added = {key: each for key, each in now.items() if key not in before and key[0] in {key[0] for key in before}}
        assert not [key for key, each in added.items() if not each["nullable"] and each["default"] is None], ran
        before = now


CREATES = """from alembic import op
from sqlalchemy import Column, Integer
revision, down_revision = {revision!r}, {down!r}
def upgrade():
    op.create_table({table!r}, Column("id", Integer))
"""


def test_one_that_fails_leaves_nothing_behind_and_can_be_run_again(database_url: str, tmp_path: Path) -> None:
    versions = tmp_path / "50% off/versions"  # a sign that Alembic's configuration would take for its own
    versions.mkdir(parents=True)
    (versions / "0001_a.py").write_text(CREATES.format(revision="x_0001", down=None, table="a"))
    second = CREATES.format(revision="x_0002", down="x_0001", table="b")
    (versions / "0002_b.py").write_text(f"{second}    raise ZeroDivisionError\n")
    with pytest.raises(ZeroDivisionError):
        History(versions.parent).upgrade(database_url)
    assert tables(database_url) == set()

    (versions / "0002_b.py").write_text(second)
    assert len(History(versions.parent).upgrade(database_url)) == 2
    assert tables(database_url) == {"a", "b", "alembic_version"}


def newer(url: str) -> None:
    history().upgrade(url)
    run(url, "UPDATE alembic_version SET version_num = 'order_service_0999'")


def of_another_service(url: str) -> None:
    history("payment_service").upgrade(url)


def of_another_service_before_migrations(url: str) -> None:
    restore("payment_service", url)


def of_another_program(url: str) -> None:
    run(url, "CREATE TABLE alembic_version (version_num VARCHAR(32))", "INSERT INTO alembic_version VALUES ('ae10f2')")


def with_tables_of_another_program(url: str) -> None:
    run(url, "CREATE TABLE customers (id INTEGER)")


def with_a_table_of_the_same_name(url: str) -> None:
    run(url, "CREATE TABLE orders (id INTEGER)")


def with_two_versions(url: str) -> None:
    history().upgrade(url)
    run(url, "INSERT INTO alembic_version VALUES ('order_service_0001')")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (newer, "a newer version has upgraded it to order_service_0999, and this one knows nothing after order_ser"),
        (
            of_another_service,
            "it is another one's: its table alembic_version says payment_service_0003, and not order_",
        ),
        (of_another_service_before_migrations, "another program's, or another service's: it has outbox, payments, and"),
        (of_another_program, "its table alembic_version says ae10f2"),
        (with_tables_of_another_program, "it is another program's, or another service's: it has customers, and none"),
        (with_a_table_of_the_same_name, "it is another program's: its table orders has no column order_id"),
        (with_two_versions, "alembic_version has 2 rows"),
    ],
)
def test_other_databases_are_refused_and_left_as_they_are(
    database_url: str, make: Callable[[str], None], sentence: str
) -> None:
    make(database_url)
    before = tables(database_url)
    with pytest.raises(MigrationFailed, match=sentence):
        history().upgrade(database_url)
    assert tables(database_url) == before


@pytest.mark.parametrize(("offset", "sentence"), [(0, "it is no SQLite database"), (100, "it is damaged, restore a")])
def test_a_damaged_file_is_told_at_once(tmp_path: Path, offset: int, sentence: str) -> None:
    file = tmp_path / "test.db"
    restore("order_service", url := f"sqlite:///{file}")
    with file.open("r+b") as damaged:
        damaged.seek(offset)
        damaged.write(b"\xff" * 100)
    for attempt in (history().upgrade, history().pending):
        with pytest.raises(MigrationFailed, match=sentence) as caught:
            attempt(url)
        assert not isinstance(caught.value, NotYet)


def test_a_file_that_is_not_there_is_not_created_to_look_at_it(tmp_path: Path) -> None:
    assert len(history().pending(f"sqlite:///{tmp_path}/a/b.db")) == 3
    assert list(tmp_path.iterdir()) == []


@contextmanager
def held(url: str) -> Iterator[None]:
    """Another process has begun a transaction on the orders."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(url) as other:
            other.execute("SELECT count(*) FROM orders")
            yield


async def test_a_database_that_is_in_use_is_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "LOCK_TIMEOUT_SECONDS", 0.05)
    restore("order_service", database_url)
    database = SystemDatabase("order_service", database_url, DATABASES["order_service"].migrations)
    ran: list[str] = []
    with held(database_url):
        with pytest.raises(NotYet, match=r"another process has locked it|a transaction holds a table"):
            history().upgrade(database_url)
        waiting = asyncio.create_task(upgrade([database], ran.append))
        await asyncio.sleep(0)
    await waiting
    assert len(ran) == 3


def test_two_at_once_take_turns(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "LOCK_TIMEOUT_SECONDS", 0.05)
    backend = backend_of(database_url)
    with backend.changing_schema(), pytest.raises(NotYet, match=r"another process has locked it|another upgrade runs"):
        history().upgrade(database_url)
    backend.engine.dispose()
    assert len(history().upgrade(database_url)) == len(history().migrations)


async def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    urls = {name: f"sqlite:///{tmp_path / name}.db" for name in DATABASES}
    ran = await asyncio.gather(*(asyncio.to_thread(history(name).upgrade, url) for name, url in urls.items()))
    assert [each[0].revision for each in ran] == [f"{name}_0001" for name in DATABASES]
    assert all(differences(url, METADATA[name]) == [] for name, url in urls.items())


def test_they_run_through_a_pooler(postgres: PrivatePostgres) -> None:
    with PrivatePgBouncer(postgres.port) as pooler:
        url = pooler.url(postgres.create_database())
        assert [len(history().upgrade(url)) for _ in range(3)] == [3, 0, 0]

"""The rules of who may import what, and where SQL and AMQP may be written."""

import ast
import fnmatch
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contract import services
from tests import newest_broker

ROOT = Path(__file__).parents[2]
SERVICES = [service.name for service in services()]
PACKAGES = ("shared", *SERVICES, "control_room")
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

SPEAKS_SQL = re.compile(r"^\s*(SELECT\b|INSERT\s+INTO\b|UPDATE\s+\w+\s+SET\b|DELETE\s+FROM\b|CREATE\s+(TABLE|INDEX)\b)")
DATABASE_MODULES = {"sqlalchemy", "sqlite3", "psycopg"}


TUTORIALS_CHANNEL = Path("control_room/experiments/lab/rabbitmq_client.py")
"""The lab's wrong ways are written as tutorials write them: on pika's blocking channel, which this file hands out."""

SQL_MODULES = re.compile("|".join(
    fnmatch.translate(line.partition(" -> ")[0].replace("**", "*"))
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    if contract["name"] == "SQL in these modules alone"
    for line in contract["ignore_imports"]
))  # fmt: skip
"""The list of the import contract: what may not import a database may not write SQL either."""


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """The top-level names of what is imported anywhere in the file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def parsed(file: Path) -> ast.AST:
    return ast.parse((ROOT / file).read_text(), filename=str(file))


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    outcome = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("file", FILES, ids=str)
def test_pika_is_imported_in_shared_messaging_alone(file: Path) -> None:
    if file == TUTORIALS_CHANNEL:
        return
    assert file.is_relative_to("shared/messaging") or "pika" not in set(imported_modules(parsed(file)))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_sql_is_in_the_listed_modules_alone(file: Path) -> None:
    if SQL_MODULES.fullmatch(".".join(file.with_suffix("").parts).removesuffix(".__init__")):
        return
    tree = parsed(file)
    assert not DATABASE_MODULES & set(imported_modules(tree))
    assert not [text for text in strings(tree) if SPEAKS_SQL.match(text)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_does_not_wait_at_its_start_for_what_it_never_uses(service: str) -> None:
    never = {"httpx", "rich.console", "nicegui", "pygal", "alembic", "sqlalchemy.dialects.postgresql"}
    start = f"from shared.tuning import quick_imports\nwith quick_imports():\n    import {service}.app, shared.service"
    imported = subprocess.run(
        [sys.executable, "-c", f"{start}\nimport sys\nprint(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{service}.store" in imported.stdout.split()
    assert not never & set(imported.stdout.split())


def test_no_file_is_too_long_to_hold_one_thing() -> None:
    lengths = {str(file): len((ROOT / file).read_text().splitlines()) for file in FILES}
    assert not {file: length for file, length in lengths.items() if length > 400}


def test_no_text_becomes_attributes_of_the_control_rooms_page() -> None:
    """`props(f"...")` parses its argument: a quotation mark in what is filled in would end one and begin another."""
    pages = [file for file in FILES if str(file).startswith("control_room/dashboard/page/")]
    assert pages
    assert not [str(file) for file in pages if re.search(r"\.props\(\s*f[\"']", (ROOT / file).read_text())]


def test_the_tests_for_the_newest_broker_exist() -> None:
    """Two pytest processes end without a word about a file that is missing, and run nothing."""
    assert not [file for file in newest_broker.CORE if not (ROOT / file).is_file()]


LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT_NAME = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")


@pytest.mark.parametrize("file", FILES, ids=str)
def test_log_events_are_dotted_names_with_fields(file: Path) -> None:
    """A log can be searched by its events' names; what varies is in the fields."""
    calls = [
        node
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS
        if isinstance(node.func.value, ast.Name) and node.func.value.id in ("logger", "log")
    ]
    for call in calls:
        event = call.args[0]
        assert isinstance(event, ast.Constant), f"{file}:{call.lineno}"
        assert EVENT_NAME.fullmatch(str(event.value)), f"{file}:{call.lineno}: {event.value!r}"

"""`order-rail new`: what it writes into a copy of this repository is right, and part of the whole system."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pika
import pytest
import pytest_asyncio

from control_room.launcher.ports import free_ports
from shared.ids import first_id
from tests.conftest import Broker
from tests.end_to_end.test_launcher import Up, brought_up
from tests.order_rail import order_rail, report_of
from tests.partitioned import register
from tests.support import eventually

ROOT = Path(__file__).parents[2]
SERVICES = ("badges_service", "tombola_prizes_service")
"""The first publishes an event, which the second takes."""
QUEUE = "tombola_prizes_service.work"
CHANNEL = "pager"
OF_ALL = [
    *(f"tests/unit/test_{name}.py" for name in ("backup", "contract", "database_commands", "events", "migrations")),
    *(f"tests/unit/{name}.py" for name in ("test_notices_in_order", "test_topology", "order_tables/test_order_sweep")),
    "tests/architecture/test_kubernetes.py",
]
"""The files with tests that depend on which services, queues, events and channels there are."""
PICKED = (
    "not postgresql and (badges or tombola_prizes or compose_file or up_to_date or kubernetes or topology"
    " or tables_that_the_code_expects or all_databases_are_restored or without_a_variable"
    " or sweep_after_seconds or read_as_it_was_written or latest_notice)"
)
"""These tests, by words in their names."""
MAX_LINES = 220

ORDER = {
    "customer_email": "ada@example.com",
    "customer_push": "ada-s_phone",
    "items": [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}],
}


class Copy:
    """A copy of this repository, as a clone of its own. `registry`: the environment in which its services are found."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "copy"
        self.registry = {"PYTHONPATH": str(self.root)}
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        if (cache := ROOT / ".mypy_cache").is_dir():
            shutil.copytree(cache, self.root / ".mypy_cache")
        self.run("git", "init", "--quiet")

    async def generate(self, kind: str, name: str, *options: str) -> None:
        """Commit, and write it."""
        self.run("git", "add", "--all")
        author = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
        self.run("git", *author, "commit", "--quiet", "--message", "A step")
        ended = await order_rail("new", kind, name, *options, cwd=self.root, **self.registry)
        assert ended.status == 0, ended.errors
        named = re.findall(r"(?m)^  (\S+)", ended.output.partition("Then:")[0])
        assert len(named) >= 3
        assert all((self.root / file).exists() for file in named), ended.output

    async def generate_service(self, name: str, *options: str) -> None:
        """Write it, and register it beside those before."""
        await self.generate("service", name, *options)
        directory = self.root.parent / name
        directory.mkdir()
        paths = register(directory, f"{name}_service", found_in=self.root)["PYTHONPATH"]
        self.registry = {"PYTHONPATH": os.pathsep.join((paths, self.registry["PYTHONPATH"]))}

    def run(self, *command: str | Path) -> str:
        """Its output. Fails the test if it fails."""
        ended = subprocess.run(
            command, cwd=self.root, env={**os.environ, **self.registry}, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def tool(self, name: str, *arguments: str) -> str:
        return self.run(Path(sys.executable).with_name(name), *arguments)


class Running:
    """The system with the new services in it: its addresses, and the command line beside it."""

    def __init__(self, up: Up, copy: Copy) -> None:
        self.directory, self._copy = up.run_directory, copy
        self._file = up.run_directory / "environment"
        self.addresses = {name: str(value) for name, value in up.environment.items()}
        headers = {"Authorization": f"Bearer {self.addresses['OPERATOR_TOKEN']}"}
        self.http = httpx.AsyncClient(headers=headers, trust_env=False, timeout=10)

    async def get(self, service: str, path: str) -> httpx.Response:
        return await self.http.get(f"{self.addresses[f'{service}_URL']}{path}")

    async def place(self) -> str:
        answer = await self.http.post(f"{self.addresses['ORDER_SERVICE_URL']}/orders", json=ORDER)
        return str(answer.raise_for_status().json()["order_id"])

    async def entries(self, service: str) -> list[dict[str, object]]:
        answer = await self.get(service, "/audit")
        return [json.loads(line) for line in answer.raise_for_status().text.splitlines()]

    async def command(self, *arguments: str) -> str:
        options = ("--environment-file", str(self._file))
        ended = await order_rail(*arguments, *options, cwd=self._copy.root, **self._copy.registry)
        assert ended.status == 0, ended.output + ended.errors
        return ended.output


@pytest_asyncio.fixture(scope="module")
async def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """With both services, the second behind the first, further events of two services, and a channel."""
    copy = Copy(tmp_path_factory.mktemp("four"))
    await copy.generate_service("badges", "--on", "payment.succeeded.v1", "--publishes", "badges.earned.v1")
    await copy.generate_service("tombola_prizes", "--on", "badges.earned.v1")
    await copy.generate("event", "badges.spent.v1", "--by", "badges")
    await copy.generate("event", "payment.reversed.v1", "--by", "payment")
    await copy.generate("channel", CHANNEL, "--like", "push")
    copy.run(sys.executable, "-m", "docs.generate")
    return copy


@pytest_asyncio.fixture(scope="module")
async def running(broker: Broker, copy: Copy) -> AsyncIterator[Running]:
    where = {"RABBITMQ_URL": broker.amqp_url("a-fourth-service"), "RABBITMQ_MANAGEMENT_URL": broker.management_url}
    ports = {f"{name}_PORT".upper(): str(port) for name, port in zip(SERVICES, free_ports(2), strict=True)}
    with brought_up(copy.root.parent / "run", copy.root, **copy.registry, **ports, **where) as up:
        await up.is_up()
        yield Running(up, copy)


async def test_what_is_generated_keeps_to_all_rules(copy: Copy) -> None:
    copy.tool("ruff", "check")
    copy.tool("ruff", "format", "--check")
    copy.tool("lint-imports", "--no-cache")
    copy.tool("mypy")


def test_its_own_tests_pass_and_so_do_all_that_depend_on_what_is_there(copy: Copy) -> None:
    own = [f"tests/service/test_{service}.py" for service in SERVICES]
    assert "failed" not in copy.tool("pytest", "-q", "-p", "no:cacheprovider", "-k", PICKED, *own, *OF_ALL)


@pytest.mark.parametrize("service", SERVICES)
def test_it_is_small(copy: Copy, service: str) -> None:
    files = (copy.root / service).rglob("*.py")
    assert sum(len(file.read_text().splitlines()) for file in files) <= MAX_LINES


@pytest.mark.parametrize("service", [service.upper() for service in SERVICES])
async def test_it_is_started_and_ready(running: Running, service: str) -> None:
    assert int(running.addresses[f"{service}_PID"]) > 0
    assert (await running.get(service, "/readyz")).status_code == 200


async def test_they_do_their_work_once_and_the_audit_counts_it(running: Running) -> None:
    order_id = await running.place()

    async def entered() -> bool:
        rows = [row for service in SERVICES for row in await running.entries(service.upper())]
        assert [row["kind"] for row in rows if row["order_id"] == order_id] == ["badges", "tombola_prizes"]
        notices = await running.entries("NOTIFICATION_SERVICE")
        assert CHANNEL in [row["channel"] for row in notices if row["order_id"] == order_id]
        return True

    await eventually(entered, 30, "the order's entries, and its notice over the new channel")
    report = await running.command("audit")
    assert "badges" in report
    assert "tombola prizes" in report


async def test_its_dead_letters_are_listed_and_sent_back(running: Running) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(running.addresses["RABBITMQ_URL"]))
    connection.channel().basic_publish("", QUEUE, b"no event", pika.BasicProperties(message_id="poison"))
    connection.close()

    async def listed() -> bool:
        return QUEUE in await running.command("dead-letters", "list")

    await eventually(listed, 30, "its dead letter")
    await running.command("dead-letters", "discard", "poison", "--reason", "a test")


async def test_its_old_records_are_pruned_with_those_of_the_others(running: Running) -> None:
    with closing(sqlite3.connect(running.directory / "tombola_prizes_service.db", timeout=10)) as database:
        row = (first_id(datetime(2026, 1, 1, tzinfo=UTC)), "a test", "2026-01-01 00:00:00.000000")
        database.execute("INSERT INTO tombola_prizes VALUES (?, ?, ?)", row)
        database.commit()
    before = await running.entries("TOMBOLA_PRIZES_SERVICE")

    assert re.search("tombola_prizes_service +1 records deleted", await running.command("prune"))

    assert len(await running.entries("TOMBOLA_PRIZES_SERVICE")) == len(before) - 1
    assert "pruned_before" in (await running.get("TOMBOLA_PRIZES_SERVICE", "/milestones")).json()


async def test_its_box_is_on_the_dashboard(running: Running) -> None:
    page = (await running.http.get(running.addresses["CONTROL_ROOM_URL"])).text
    assert "Tombola prizes service" in page
    assert "Tombola prizes: events to be handled" in page


@pytest.mark.skipif("CHAOS" not in os.environ, reason="takes two minutes: set CHAOS=1")
@pytest.mark.timeout(400)
async def test_a_minute_of_chaos_leaves_one_entry_of_each_charged_order(copy: Copy, tmp_path: Path) -> None:
    run = ("--minutes", "1", "--faults", "kill,broker-kill", "--seed", "4", "--rate", "25", "--run-directory", tmp_path)
    ended = await order_rail("chaos", *map(str, run), "--recover-within-seconds", "40", cwd=copy.root, **copy.registry)

    assert ended.status == 0, ended.output + ended.errors
    report = report_of(tmp_path)
    assert set(SERVICES) < {each["target"] for each in report["injections"] if each["evidence"]}
    counts, ends = report["audit"]["counts"], report["audit"]["statuses"]
    # Of an order that was cancelled while it was charged, nobody may have heard that it had been paid.
    assert 500 < ends["confirmed"] <= counts["badges"] == counts["tombola_prizes"] <= counts["charges"]

"""A service that is added by its package and a registry line alone is part of the whole system."""

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping
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
from tests.order_rail import order_rail
from tests.partitioned import EXAMPLES, register
from tests.support import eventually

PACKAGE = EXAMPLES / "loyalty_service"
QUEUE = "loyalty_service.earn"
MAX_LINES = 140

ORDER = {
    "customer_email": "ada@example.com",
    "items": [{"sku": "margherita", "quantity": 2}, {"sku": "cola", "quantity": 1}],
}


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


class Running:
    """The system with the fourth service in it: its addresses, and the command line beside it."""

    def __init__(self, up: Up, registry: Mapping[str, str]) -> None:
        self.directory, self._registry = up.run_directory, registry
        self._file = up.run_directory / "environment"
        self.addresses = {name: str(value) for name, value in up.environment.items()}
        headers = {"Authorization": f"Bearer {self.addresses['OPERATOR_TOKEN']}"}
        self.http = httpx.AsyncClient(headers=headers, trust_env=False, timeout=10)

    async def get(self, service: str, path: str) -> httpx.Response:
        return await self.http.get(f"{self.addresses[f'{service}_URL']}{path}")

    async def place(self) -> str:
        answer = await self.http.post(f"{self.addresses['ORDER_SERVICE_URL']}/orders", json=ORDER)
        return str(answer.raise_for_status().json()["order_id"])

    async def points(self) -> list[dict[str, object]]:
        answer = await self.get("LOYALTY_SERVICE", "/audit")
        return [json.loads(line) for line in answer.raise_for_status().text.splitlines()]

    async def command(self, *arguments: str) -> str:
        ended = await order_rail(*arguments, "--environment-file", str(self._file), **self._registry)
        assert ended.status == 0, ended.output + ended.errors
        return ended.output


@pytest_asyncio.fixture(scope="module")
async def running(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    directory = tmp_path_factory.mktemp("four")
    registry = register(directory, "loyalty_service")
    where = {"RABBITMQ_URL": broker.amqp_url("a-fourth-service"), "RABBITMQ_MANAGEMENT_URL": broker.management_url}
    port = {"LOYALTY_SERVICE_PORT": str(free_ports(1)[0])}
    with brought_up(directory / "run", **registry, **port, **where) as up:
        await up.is_up()
        yield Running(up, registry)


def test_it_is_small() -> None:
    assert sum(lines(file) for file in PACKAGE.rglob("*.py")) <= MAX_LINES


async def test_it_is_started_and_ready(running: Running) -> None:
    assert int(running.addresses["LOYALTY_SERVICE_PID"]) > 0
    assert (await running.get("LOYALTY_SERVICE", "/readyz")).status_code == 200


async def test_it_does_its_work_once_and_the_audit_counts_it(running: Running) -> None:
    order_id = await running.place()

    async def credited() -> bool:
        return {"kind": "points", "order_id": order_id, "points": 22} in await running.points()

    await eventually(credited, 30, "points for the order")
    assert "points" in await running.command("audit")


async def test_its_dead_letters_are_listed_and_sent_back(running: Running) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(running.addresses["RABBITMQ_URL"]))
    connection.channel().basic_publish("", QUEUE, b"no event", pika.BasicProperties(message_id="poison"))
    connection.close()

    async def listed() -> bool:
        return QUEUE in await running.command("dead-letters", "list")

    await eventually(listed, 30, "its dead letter")
    await running.command("dead-letters", "discard", "poison", "--reason", "a test")


async def test_its_old_records_are_pruned_with_those_of_the_others(running: Running) -> None:
    with closing(sqlite3.connect(running.directory / "loyalty_service.db", timeout=10)) as database:
        database.execute("INSERT INTO points VALUES (?, 5)", (first_id(datetime(2026, 1, 1, tzinfo=UTC)),))
        database.commit()
    before = await running.points()

    assert re.search("loyalty_service +1 records deleted", await running.command("prune"))

    assert len(await running.points()) == len(before) - 1
    assert "pruned_before" in (await running.get("LOYALTY_SERVICE", "/milestones")).json()


async def test_its_box_is_on_the_dashboard(running: Running) -> None:
    page = (await running.http.get(running.addresses["CONTROL_ROOM_URL"])).text
    assert "Loyalty points" in page
    assert "Points to be credited" in page

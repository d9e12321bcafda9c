"""Replicas of a62db12, which had no migrations, are replaced under load: no request fails, and nothing is lost."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from control_room.launcher.children import end, spawn, tail
from control_room.launcher.ports import free_ports
from control_room.operations.databases import databases_of, upgrade
from shared.contract import services
from shared.settings import BrokerSettings
from tests.conftest import QUICK_RETRIES
from tests.postgres import PrivatePostgres
from tests.rail import Rail
from tests.support import SERVICES, addresses_of, eventually

ROOT = Path(__file__).parents[2]
BEFORE = "a62db12"
ORDERS = "order_service"
OPERATOR_TOKEN = "the operators' token"
CUSTOMERS = 4
PAUSE_SECONDS = 0.02
TOKENS = ("tok_visa", "tok_visa", "tok_declined")


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """Its services; skipped in a clone that does not go back so far."""
    archive = subprocess.run(
        ["git", "archive", BEFORE, "shared", *SERVICES], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"this clone has no {BEFORE}: {archive.stderr.decode()}")
    (directory := tmp_path / "before").mkdir()
    subprocess.run(["tar", "-x"], cwd=directory, input=archive.stdout, check=True)
    return directory


@dataclass(eq=False)
class Replica:
    """A process of a service. `busy`: how many requests to it are under way."""

    url: str
    process: Process
    log: Path
    busy: int = 0


class Customers:
    """They place orders and read each one at every replica, over and over. `failures`: what they should never see."""

    def __init__(self, http: httpx.AsyncClient, replicas: list[Replica]) -> None:
        self._http, self.replicas = http, replicas
        self.accepted: list[str] = []
        self.failures: list[str] = []
        self._next, self._tokens = 0, cycle(TOKENS)

    async def run(self) -> None:
        while True:
            await self._place()
            await asyncio.sleep(PAUSE_SECONDS)

    async def more(self, orders: int) -> None:
        """Wait until they have placed so many more."""
        enough = len(self.accepted) + orders
        await eventually(lambda: len(self.accepted) >= enough or self.failures, 60, "more orders")

    async def _place(self) -> None:
        self._next += 1
        body = {
            "customer_email": "ada@example.com",
            "items": [{"sku": "cola", "quantity": 1}],
            "payment_token": next(self._tokens),
        }
        answer = await self._ask(self.replicas[self._next % len(self.replicas)], "POST", "/orders", body)
        if answer is not None:
            self.accepted.append(answer["order_id"])
            for replica in list(self.replicas):
                await self._ask(replica, "GET", f"/orders/{answer['order_id']}")

    async def _ask(self, replica: Replica, method: str, path: str, body: object = None) -> dict[str, str] | None:
        replica.busy += 1
        try:
            answer = await self._http.request(method, f"{replica.url}{path}", json=body)
            return dict(answer.raise_for_status().json())
        except httpx.HTTPError as error:
            self.failures.append(f"{method} {path}: {error!r}")
            return None
        finally:
            replica.busy -= 1


class Rollout:
    """Starts and stops replicas, each service's on its own database."""

    def __init__(
        self, http: httpx.AsyncClient, environment: Mapping[str, str], logs: Path, stack: AsyncExitStack
    ) -> None:
        self._http, self._environment, self._logs, self._stack = http, environment, logs, stack

    async def start(self, service: str, directory: Path) -> Replica:
        """A ready replica of the service as it is in the directory."""
        (port,) = free_ports(1)
        url = self._environment[f"{service}_DATABASE_URL".upper()]
        variables = {**os.environ, **self._environment, "DATABASE_URL": url, "HTTP_PORT": str(port)}
        log = self._logs / f"{service}-{port}.log"
        process = await spawn([sys.executable, "-m", service], variables, log, directory)
        self._stack.push_async_callback(end, process, 10)
        replica = Replica(f"http://127.0.0.1:{port}", process, log)

        async def is_ready() -> bool:
            assert process.returncode is None, tail(log)
            try:
                answer = await self._http.get(f"{replica.url}/readyz")
            except httpx.HTTPError as error:
                raise AssertionError(str(error)) from error
            assert answer.status_code == 200, answer.text
            return True

        await eventually(is_ready, 60, f"{service} of {directory.name} to be ready")
        return replica

    async def stop(self, replica: Replica) -> None:
        """After its last request, as a proxy would do it."""
        await eventually(lambda: replica.busy == 0, 10, "its requests to end")
        assert await end(replica.process, 10) == 0, tail(replica.log)


@dataclass
class Running:
    """What runs in the end, as `Rail` takes it."""

    replicas: Mapping[str, Replica]
    operator_token: str = OPERATOR_TOKEN

    def url(self, service: str) -> str:
        return self.replicas[service].url


async def test_old_and_new_replicas_work_side_by_side(
    before: Path, postgres: PrivatePostgres, module_broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    environment = {
        **QUICK_RETRIES,
        **addresses_of(module_broker_settings),
        **{f"{name}_DATABASE_URL".upper(): postgres.create_database() for name in SERVICES},
        "GATEWAY_URL": f"simulated+{postgres.create_database()}",
        "GATEWAY_LATENCY_SECONDS": "0.05",
        "OPERATOR_TOKEN": OPERATOR_TOKEN,
    }
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        rollout = Rollout(http, environment, tmp_path, stack)
        old = {name: await rollout.start(name, before) for name in SERVICES}
        customers = Customers(http, [old[ORDERS]])
        placing = [asyncio.create_task(customers.run()) for _ in range(CUSTOMERS)]
        await customers.more(30)

        ran: list[str] = []
        await upgrade(databases_of(services(), environment, str), ran.append)
        assert ran
        new = {}
        for name in reversed(SERVICES):  # the order service last: the others may get events that are new to them
            new[name] = await rollout.start(name, ROOT)
            if name == ORDERS:
                customers.replicas.append(new[name])
            await customers.more(60)
            if name == ORDERS:
                customers.replicas.remove(old[name])
            await rollout.stop(old[name])
        await customers.more(30)
        for each in placing:
            each.cancel()
        await asyncio.gather(*placing, return_exceptions=True)

        assert customers.failures == []
        async with Rail(Running(new)).ready() as rail:
            rail.accepted += customers.accepted
            await rail.reconcile()

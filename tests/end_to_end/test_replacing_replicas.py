"""Replicas are replaced under load, and no request fails, and nothing is lost.

Those of a62db12, which had no migrations, give way to today's; behind HAProxy one host after the other is restarted.
"""

import asyncio
import os
import re
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from tests.haproxy import STATISTICS, front_door, program
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
ADDRESSES = ("127.0.0.2", "127.0.0.3")
DRAIN_SECONDS = 4


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
class Entrance:
    """Where a service is reached. `busy`: how many requests to it are under way."""

    url: str
    busy: int = 0


@dataclass(eq=False, kw_only=True)
class Replica(Entrance):
    """A process of a service."""

    process: Process
    log: Path


class Customers:
    """They place orders and read each one at every entrance, over and over. `failures`: what they should never see."""

    def __init__(self, http: httpx.AsyncClient, entrances: Sequence[Entrance]) -> None:
        self._http, self.entrances = http, list(entrances)
        self.accepted: list[str] = []
        self.failures: list[str] = []
        self._next, self._tokens = 0, cycle(TOKENS)

    async def run(self) -> None:
        while True:
            if order_id := await self.place(next(self._tokens)):
                for entrance in list(self.entrances):
                    await self._ask(entrance, "GET", f"/orders/{order_id}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def more(self, orders: int) -> None:
        """Wait until they have placed so many more."""
        enough = len(self.accepted) + orders
        await eventually(lambda: len(self.accepted) >= enough or self.failures, 60, "more orders")

    async def place(self, token: str) -> str:
        """The id of a new order that was accepted, else an empty string."""
        self._next += 1
        items = [{"sku": "cola", "quantity": 1}]
        body = {"customer_email": "ada@example.com", "items": items, "payment_token": token}
        answer = await self._ask(self.entrances[self._next % len(self.entrances)], "POST", "/orders", body)
        if answer is None:
            return ""
        self.accepted.append(answer["order_id"])
        return answer["order_id"]

    async def cancel(self, order_id: str) -> None:
        await self._ask(self.entrances[0], "POST", f"/orders/{order_id}/cancel")

    async def _ask(self, entrance: Entrance, method: str, path: str, body: object = None) -> dict[str, str] | None:
        entrance.busy += 1
        try:
            answer = await self._http.request(method, f"{entrance.url}{path}", json=body)
            return dict(answer.raise_for_status().json())
        except httpx.HTTPError as error:
            self.failures.append(f"{method} {path}: {error!r}")
            return None
        finally:
            entrance.busy -= 1


class Rollout:
    """Starts and stops replicas, each service's on its own database."""

    def __init__(
        self, http: httpx.AsyncClient, environment: Mapping[str, str], logs: Path, stack: AsyncExitStack
    ) -> None:
        self._http, self._environment, self._logs, self._stack = http, environment, logs, stack

    async def start(self, service: str, directory: Path, host: str = "127.0.0.1", port: int | None = None) -> Replica:
        """A ready replica of the service as it is in the directory."""
        port = port or free_ports(1)[0]
        url = self._environment[f"{service}_DATABASE_URL".upper()]
        own = {"DATABASE_URL": url, "HTTP_HOST": host, "HTTP_PORT": str(port)}
        log = self._logs / f"{service}-{host}-{port}.log"
        process = await spawn(
            [sys.executable, "-m", service], {**os.environ, **self._environment, **own}, log, directory
        )
        self._stack.push_async_callback(end, process, 10)
        replica = Replica(f"http://{host}:{port}", process=process, log=log)

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
        """After the last request that a customer sent to it directly."""
        await eventually(lambda: replica.busy == 0, 10, "its requests to end")
        assert await end(replica.process, 10 + DRAIN_SECONDS) == 0, tail(replica.log)


@dataclass
class Running:
    """What runs in the end, as `Rail` takes it."""

    entrances: Mapping[str, Entrance]
    operator_token: str = OPERATOR_TOKEN

    def url(self, service: str) -> str:
        return self.entrances[service].url


def environment_of(settings: BrokerSettings, postgres: PrivatePostgres) -> dict[str, str]:
    """The variables of all services, with new databases."""
    return {
        **QUICK_RETRIES,
        **addresses_of(settings),
        **{f"{name}_DATABASE_URL".upper(): postgres.create_database() for name in SERVICES},
        "GATEWAY_URL": f"simulated+{postgres.create_database()}",
        "GATEWAY_LATENCY_SECONDS": "0.05",
        "OPERATOR_TOKEN": OPERATOR_TOKEN,
    }


@asynccontextmanager
async def at_work(customers: Customers) -> AsyncIterator[None]:
    """Customers place orders until the block ends."""
    placing = [asyncio.create_task(customers.run()) for _ in range(CUSTOMERS)]
    try:
        yield
    finally:
        for each in placing:
            each.cancel()
        await asyncio.gather(*placing, return_exceptions=True)


async def hold(customers: Customers, running: Running) -> None:
    """No customer saw a failure, and every order reaches its end with one charge or none."""
    assert customers.failures == []
    async with Rail(running).ready() as rail:
        rail.accepted += customers.accepted
        await rail.reconcile()


async def test_old_and_new_replicas_work_side_by_side(
    before: Path, postgres: PrivatePostgres, module_broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        environment = environment_of(module_broker_settings, postgres)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        rollout = Rollout(http, environment, tmp_path, stack)
        old = {name: await rollout.start(name, before) for name in SERVICES}
        customers = Customers(http, [old[ORDERS]])
        async with at_work(customers):
            await customers.more(30)
            ran: list[str] = []
            await upgrade(databases_of(services(), environment, str), ran.append)
            assert ran
            new = {}
            for name in reversed(SERVICES):  # the order service last: the others may get events that are new to them
                new[name] = await rollout.start(name, ROOT)
                if name == ORDERS:
                    customers.entrances.append(new[name])
                await customers.more(60)
                if name == ORDERS:
                    customers.entrances.remove(old[name])
                await rollout.stop(old[name])
            await customers.more(30)
        await hold(customers, Running(new))


async def test_a_rolling_restart_behind_the_proxy_is_not_noticed(
    postgres: PrivatePostgres, module_broker_settings: BrokerSettings, tmp_path: Path
) -> None:
    """Event streams end with their replica: they go on at the other one, without a gap and without a repetition."""
    if sys.platform != "linux":
        pytest.skip("only Linux answers at every address of 127.0.0.0/8")
    haproxy, ports = program(), dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    async with AsyncExitStack() as stack:
        environment = environment_of(module_broker_settings, postgres) | {"DRAIN_SECONDS": str(DRAIN_SECONDS)}
        await upgrade(databases_of(services(), environment, str), lambda _done: None)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False))
        rollout = Rollout(http, environment, tmp_path, stack)
        places = [(name, address) for name in SERVICES for address in ADDRESSES]
        started = await asyncio.gather(*(rollout.start(name, ROOT, host, ports[name]) for name, host in places))
        replicas = dict(zip(places, started, strict=True))
        addresses = {name: list(ADDRESSES) for name in SERVICES}
        own, _ = await stack.enter_async_context(front_door(addresses, ports, tmp_path, haproxy=haproxy))
        statistics = f"http://127.0.0.1:{own[STATISTICS]}/metrics"
        doors = {name: Entrance(f"http://127.0.0.1:{own[name]}") for name in SERVICES}
        customers = Customers(http, [doors[ORDERS]])
        async with at_work(customers):
            order_id = await customers.place("tok_broken")
            following = [asyncio.create_task(follow(http, f"{doors[ORDERS].url}/orders/{order_id}")) for _ in range(4)]
            await customers.more(30)
            for host in ADDRESSES:
                await asyncio.gather(*(rollout.stop(replicas[name, host]) for name in SERVICES))
                await customers.more(30)
                await asyncio.gather(*(rollout.start(name, ROOT, host, ports[name]) for name in SERVICES))
                await customers.more(30)
        assert tried_elsewhere((await http.get(statistics)).text) == 0  # no request met a replica that had stopped
        await customers.cancel(order_id)
        (first, times_opened), *others = await asyncio.gather(*following)
        assert times_opened > 1
        assert len(first) == len(set(first))
        assert [ids for ids, _ in others] == [first] * len(others)
        await hold(customers, Running(doors))


def tried_elsewhere(metrics: str) -> int:
    """How many connections of the proxy to a replica failed, so that it tried again."""
    counts = re.findall(r"^haproxy_backend_(?:retry|redispatch)_warnings_total{.*} (\d+)$", metrics, re.MULTILINE)
    assert counts, metrics
    return sum(map(int, counts))


async def follow(http: httpx.AsyncClient, order_url: str) -> tuple[list[str], int]:
    """The ids of an order's events until it is cancelled, and how often its stream was opened for them.

    The stream ends there, with or without what was reported in the same moment.
    """
    ids: list[str] = []
    times_opened = 0
    while True:
        times_opened += 1
        headers = {"Last-Event-ID": ids[-1]} if ids else {}
        async with http.stream("GET", f"{order_url}/events", headers=headers) as events:
            events.raise_for_status()
            async for line in events.aiter_lines():
                if line.startswith("id: "):
                    ids.append(line.removeprefix("id: "))
                if '"type":"payment.voided.v1"' in line:
                    return ids, times_opened

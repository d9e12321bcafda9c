"""What an order costs in commits, statements, messages, packets and context switches: none may grow unnoticed.

Counts are stable where times are not. Orders are placed apart, each after the last event about the one before, and
together, as a backlog that waits while the payment service stands still: what one order costs, and what batches save.
Fsyncs and statements are counted by PostgreSQL; neither SQLite nor Linux counts them. `pytest -s` prints all counts.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, NullPool, create_engine, func, select

from benchmarks.load.closed import run_load
from control_room.launcher.system import System
from order_service.store import timeline
from shared.management import Management
from shared.testing.faults import frozen
from shared.waiting import poll
from tests.conftest import Broker, started_postgres
from tests.order_rail import launched
from tests.postgres import ADMINISTRATOR, PrivatePostgres
from tests.rail import Rail
from tests.support import SERVICES, eventually, of_the_shop_alone

WARM_UP, APART, TOGETHER, CONNECTIONS = 20, 40, 400, 32
PUBLISHES, DELIVERIES, REPORTS = 4, 8, 3
"""Of an order whose customer is notified by mail alone. `REPORTS` of the deliveries become its timeline."""

STATISTICS_SECONDS = 2.5
"""More than the interval at which RabbitMQ's processes report their counts."""

WATCHER = "watcher"
"""The role that asks PostgreSQL for the test, so that these statements are not counted."""

SERVER_COUNTS = f"""
    SELECT sum(calls) AS statements, sum(calls) FILTER (WHERE query = 'COMMIT') AS "commits on the server",
        (SELECT wal_sync FROM pg_stat_wal) AS fsyncs
    FROM pg_stat_statements WHERE userid = '{ADMINISTRATOR}'::regrole
"""

COUNTS = (
    "commits", "rows", "context switches", "packets to the broker", "packets from the broker",
    "statements", "commits on the server", "fsyncs",
)  # fmt: skip
BOUNDS = {
    ("sqlite", "apart"): (11, 11.5, 130, 11, 16),
    ("sqlite", "together"): (1.2, 8.5, 12, 1, 5.2),
    ("postgresql", "apart"): (8, 8.5, 250, 12, 18, 65, 16, 12),
    ("postgresql", "together"): (0.8, 8.5, 24, 0.8, 5.2, 10, 1.3, 1),
}
"""The most that each may be for an order.

In seven runs the counts of orders placed apart differed by a fifth at most, and bounds are a third above. Together they
differed by up to three quarters, as batches are smaller where less else runs; bounds are twice what was seen.
"""

Counts = dict[str, float]


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server that counts statements and, unlike that of other tests, makes each commit durable."""
    with started_postgres({"shared_preload_libraries": "pg_stat_statements"}) as server:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {WATCHER} SUPERUSER LOGIN")
            connection.execute("CREATE EXTENSION pg_stat_statements")
        yield server


@of_the_shop_alone
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_an_order_costs_no_more_than_it_did(
    database: str, broker: Broker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("server") if database == "postgresql" else None
    urls = _databases(tmp_path, server)
    # Without heartbeats: on a busy machine the payment service would stand still for longer than they allow.
    url = f"{broker.amqp_url(f'counts-{uuid.uuid4().hex[:8]}')}?heartbeat=0"
    async with (
        launched(broker, tmp_path / "run", RABBITMQ_URL=url, SWEEP_AFTER_SECONDS="3600", **urls) as system,
        Rail(system).ready() as rail,
    ):
        counting = Counting(system, rail, server, _watching_engine(urls["ORDER_SERVICE_DATABASE_URL"]))
        await counting.place(WARM_UP)
        await counting.until_all_is_reported()
        async with counting.per_order() as apart:
            for _ in range(APART):
                await counting.place(1)
                await counting.until_all_is_reported()
        async with counting.per_order() as together:
            with frozen(system, "payment_service"):
                await counting.place(TOGETHER)
            await counting.until_all_is_reported()

    for when, counts in (("apart", apart), ("together", together)):
        print(f"\n{database}, {when}: " + ", ".join(f"{value:.2f} {name}" for name, value in counts.items()))
        assert (counts["publishes"], counts["deliveries"], counts["acks"]) == (PUBLISHES, DELIVERIES, DELIVERIES)
        bounds = dict(zip(COUNTS, BOUNDS[database, when], strict=False))  # those of the server on PostgreSQL alone
        assert not {name: (counts[name], bound) for name, bound in bounds.items() if counts[name] > bound}


def _databases(directory: Path, server: PrivatePostgres | None) -> dict[str, str]:
    """The variables of a system, each with a database of its own."""
    names = [*(f"{service}_DATABASE_URL".upper() for service in SERVICES), "GATEWAY_URL"]
    urls = {name: server.create_database() if server else f"sqlite:///{directory / name}.db" for name in names}
    return {**urls, "GATEWAY_URL": f"simulated+{urls['GATEWAY_URL']}"}


def _watching_engine(url: str) -> Engine:
    return create_engine(
        url.replace(f"postgresql://{ADMINISTRATOR}", f"postgresql+psycopg://{WATCHER}"), poolclass=NullPool
    )


class Counting:
    """What is counted of a system that runs. `engine` leads to the order service's database."""

    def __init__(self, system: System, rail: Rail, server: PrivatePostgres | None, engine: Engine) -> None:
        self._system, self._rail, self._server, self._engine = system, rail, server, engine
        self._placed = 0

    async def place(self, orders: int) -> None:
        """Place so many, at most 32 at the same time."""
        placed = await run_load(self._system.url("order_service"), min(orders, CONNECTIONS), 0, 0, orders)
        assert placed["accepted"] == orders, placed
        self._placed += orders

    async def until_all_is_reported(self) -> None:
        """Wait until every order's timeline is complete. No service is asked: that would be counted."""
        expected = REPORTS * self._placed
        await eventually(lambda: self._reports() == expected, 120, "all events about all orders")

    @asynccontextmanager
    async def per_order(self) -> AsyncIterator[Counts]:
        """By how much each count grows in the block for each order that is placed in it; empty until the block ends."""
        counts: Counts = {}
        orders, of_broker = self._placed, await self._of_broker()
        before = await self._of_services() | of_broker
        yield counts
        after = await self._of_services() | await self._of_broker()
        orders = self._placed - orders
        counts |= {name: (value - before[name]) / orders for name, value in after.items()}

    def _reports(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(timeline)).scalar_one()

    async def _of_services(self) -> Counts:
        metrics = {"commits": "group_commits", "rows": "rows_committed"}
        counts: Counts = {
            name: sum([await self._rail.metric(service, metric) for service in SERVICES])
            for name, metric in metrics.items()
        }
        counts["context switches"] = sum(_voluntary_switches(each.pid) for each in self._system.processes.values())
        return counts | (_of_server(self._server) if self._server else {})

    async def _of_broker(self) -> Counts:
        """Once everything is acknowledged, and the counts stand still."""
        orders = self._placed
        seen: list[Counts] = []
        async with Management(self._system.broker_settings) as management:

            async def look() -> Counts:
                seen.append(await _of_virtual_host(management))
                return seen[-1]

            return await poll(
                look,
                within_seconds=60,
                every_seconds=STATISTICS_SECONDS,
                until=lambda now: (
                    now["acks"] >= DELIVERIES * orders
                    and now["publishes"] >= PUBLISHES * orders  # each channel reports at times of its own
                    and seen[-2:-1] == [now]
                ),
            )


async def _of_virtual_host(management: Management) -> Counts:
    messages = (await management.find("vhosts", management.vhost)).get("message_stats", {})
    connections = await management.find("vhosts", management.vhost, "connections")
    return {
        "publishes": messages.get("publish", 0),
        "deliveries": messages.get("deliver", 0) + messages.get("deliver_no_ack", 0),
        "acks": messages.get("ack", 0),
        "packets to the broker": sum(each.get("recv_cnt", 0) for each in connections),
        "packets from the broker": sum(each.get("send_cnt", 0) for each in connections),
    }


def _of_server(server: PrivatePostgres) -> Counts:
    """What PostgreSQL has counted, all of it: a process of the server reports its fsyncs at the latest when it ends."""
    with psycopg.connect(server.url("postgres").replace(ADMINISTRATOR, WATCHER), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [ADMINISTRATOR]
        )
        cursor = connection.execute(SERVER_COUNTS)
        names = [column.name for column in cursor.description or ()]
        return {name: float(value) for name, value in zip(names, cursor.fetchone() or (), strict=True)}


def _voluntary_switches(pid: int) -> int:
    """How often the threads of a process have waited for something. 0 where the system is not Linux."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(OSError):  # the thread has ended
            (line,) = (line for line in status.read_text().splitlines() if line.startswith("voluntary_ctxt_switches"))
            total += int(line.split()[1])
    return total

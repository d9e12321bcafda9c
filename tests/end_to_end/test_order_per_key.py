"""Order per key: a service whose queue has partitions, and whose active process is killed again and again."""

import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.ids import new_id
from shared.messaging.publisher import Publisher
from shared.settings import BrokerSettings
from tests.conftest import Broker, virtual_host
from tests.partitioned import CONTRACT, place, register, registered
from tests.postgres import PrivatePostgres
from tests.service.process import RunningService, running
from tests.support import eventually, ready

CUSTOMERS = [f"customer-{number}@example.com" for number in range(20)]
KILLS = 3
ORDERS_OF_A_CUSTOMER = 25  # between two kills


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered():
        yield


@pytest_asyncio.fixture
async def settings(broker: Broker, _registered: None) -> AsyncIterator[BrokerSettings]:
    async with virtual_host(broker) as settings:
        yield settings


async def count_of(service: RunningService) -> int:
    return len(await service.audit())


async def test_each_customers_orders_are_counted_once_and_in_sequence_whichever_process_is_killed(
    settings: BrokerSettings, postgres: PrivatePostgres, tmp_path: Path
) -> None:
    environment: dict[str, Any] = {**register(tmp_path, CONTRACT.name), "DATABASE_URL": postgres.create_database()}
    placed: list[str] = []

    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(ready(Publisher(settings.rabbitmq_url, f"test {new_id()}")))

        async def start(ends_with: int) -> RunningService:
            service = running(CONTRACT.name, settings, tmp_path, ends_with=ends_with, until="/readyz", **environment)
            return await stack.enter_async_context(service)

        active = await start(-signal.SIGKILL)
        for kill in range(1, KILLS + 1):
            standby = await start(-signal.SIGKILL if kill < KILLS else 0)
            before = await count_of(standby)
            placed += await place(publisher, CUSTOMERS * ORDERS_OF_A_CUSTOMER)
            await eventually(lambda: _more(standby, before), 30, "the active process to be at work")  # noqa: B023
            os.kill(active.process.pid, signal.SIGKILL)
            active = standby
        await eventually(lambda: _more(active, len(placed) - 1), 60, "every order to be counted")
        rows = await active.audit()

    visits = defaultdict(list)
    for row in sorted(rows, key=lambda row: str(row["order_id"])):  # as they were placed
        visits[row["customer"]].append(row["visit"])
    assert Counter(row["order_id"] for row in rows) == Counter(placed)
    assert visits == {customer: [*range(1, KILLS * ORDERS_OF_A_CUSTOMER + 1)] for customer in CUSTOMERS}


async def _more(service: RunningService, than: int) -> bool:
    return await count_of(service) > than

"""Each service alone, one process for a module of tests, in a virtual host of that module's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.settings import BrokerSettings
from tests.service.process import RunningService, running
from tests.service.wire import Wire


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest_asyncio.fixture(scope="module")
async def order_service(module_broker_settings: BrokerSettings, directory: Path) -> AsyncIterator[RunningService]:
    async with running("order_service", module_broker_settings, directory) as service:
        yield service


@pytest_asyncio.fixture(scope="module")
async def payment_service(module_broker_settings: BrokerSettings, directory: Path) -> AsyncIterator[RunningService]:
    async with running("payment_service", module_broker_settings, directory) as service:
        yield service


@pytest_asyncio.fixture(scope="module")
async def wire(module_broker_settings: BrokerSettings) -> AsyncIterator[Wire]:
    """Publishes to, and reads from, the module's virtual host."""
    async with Wire.open(module_broker_settings) as wire:
        yield wire

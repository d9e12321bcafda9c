"""The pytest plugin: `pytest_plugins = ["shared.testing.plugin"]` in your uppermost conftest.py.

Its fixtures need pytest-asyncio with `asyncio_default_fixture_loop_scope = "session"`.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from control_room.launcher.broker import PrivateBroker
from control_room.launcher.system import System, launch
from shared.settings import BrokerSettings
from shared.testing.brokers import QUICK_RETRIES, Broker, addresses_of, virtual_host
from shared.testing.crash_points import CrashPoints


@pytest.fixture
def crash_points(tmp_path: Path) -> CrashPoints:
    """Kills a handler between every two of its steps: see `crash_points.py`."""
    return CrashPoints(tmp_path)


@pytest_asyncio.fixture(scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """The session's broker: RABBITMQ_URL's, or a private node. Without either, tests fail; they are never skipped."""
    if "RABBITMQ_URL" in os.environ:
        settings = BrokerSettings()
        yield Broker(settings.rabbitmq_url, settings.management_url)
        return
    async with PrivateBroker(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield Broker(node.amqp_url(), node.management_url)
        await node.kill()  # nobody needs its data: quicker than a stop in order


@pytest_asyncio.fixture(scope="module")
async def breakable_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateBroker]:
    """A private node of the module's own, to be killed, frozen and started again."""
    async with PrivateBroker(tmp_path_factory.mktemp("breakable")) as node:
        yield node
        await node.kill()


@pytest_asyncio.fixture(scope="session")
async def broker_settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host for the session, with the topology in it and short retry delays."""
    async with virtual_host(broker) as settings:
        yield settings


@pytest_asyncio.fixture(scope="module")
async def module_broker_settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """The same for one module, for tests that would disturb others."""
    async with virtual_host(broker) as settings:
        yield settings


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """An empty directory for what a launched system writes."""
    return tmp_path / "run"


@pytest.fixture(scope="module")
def system_environment(request: pytest.FixtureRequest, module_broker_settings: BrokerSettings) -> dict[str, str]:
    """The environment of `system`: a virtual host of the module's own, and what the module's `ENVIRONMENT` says."""
    given: dict[str, str] = getattr(request.module, "ENVIRONMENT", {})
    return {**QUICK_RETRIES, **addresses_of(module_broker_settings), **given}


@pytest_asyncio.fixture(scope="module")
async def system(system_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The whole system as processes, for all tests of a module; see `system_environment` for its settings."""
    async with launch(tmp_path_factory.mktemp("system"), environment=system_environment) as launched:
        yield launched

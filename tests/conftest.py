"""What all tests share beside the fixtures of `shared/testing/plugin.py`: the order of the files, and databases."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from control_room.launcher.system import System
from control_room.operations.audit import in_flight
from shared.observability import logging
from shared.settings import BrokerSettings
from shared.testing.brokers import QUICK_RETRIES, RETRY_DELAYS_SECONDS, Broker, virtual_host
from tests.postgres import QUICK, PostgresNotInstalled, PrivatePostgres
from tests.rail import Rail
from tests.service.mail import MailServer, mail_server

__all__ = ["QUICK_RETRIES", "RETRY_DELAYS_SECONDS", "Broker", "virtual_host"]

pytest_plugins = ["shared.testing.plugin"]

collect_ignore = ["examples/project"]  # they run in the project that is made of them

logging.configure("tests", "console")

if "RABBITMQ_URL" not in os.environ:
    # Our own nodes count their messages every second, others every five: an audit need not wait that long here.
    in_flight.COUNTED_WITHIN_SECONDS = 5.0


class ByFile(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Where tests run in several processes, a file's tests stay together, for they share what they start.

    Those in a browser and those in containers stay together too: whenever a container's network comes or goes, Chromium
    drops what it is loading. xdist's own groups have no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        minds_networks = "browser/" in file or file.endswith("test_compose.py")
        return "network" if minds_networks else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session")
def vhost_url(broker_settings: BrokerSettings) -> str:
    """The AMQP URL of the session's virtual host."""
    return broker_settings.rabbitmq_url


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """The session's PostgreSQL."""
    with started_postgres() as server:
        yield server


@contextmanager
def started_postgres(settings: Mapping[str, str] = QUICK) -> Iterator[PrivatePostgres]:
    """Tests that need it are skipped where it is not installed, and fail there on CI."""
    try:
        server = PrivatePostgres(settings)
    except PostgresNotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty database; each test that takes it runs once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    server: PrivatePostgres = request.getfixturevalue("postgres")
    return server.create_database()


@pytest_asyncio.fixture(scope="module")
async def mail() -> AsyncIterator[MailServer]:
    """A mail server for the module, whose answers its tests decide."""
    async with mail_server() as server:
        yield server


@pytest_asyncio.fixture
async def rail(system: System) -> AsyncIterator[Rail]:
    """A client of `system`, once every service is ready: the test before may have left one starting."""
    async with Rail(system).ready() as client:
        yield client

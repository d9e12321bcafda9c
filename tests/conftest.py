"""One RabbitMQ for the whole test session, and virtual hosts so that tests never meet other data."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from control_room.launcher.broker import PrivateBroker
from control_room.launcher.system import System, launch
from control_room.operations.audit import in_flight
from shared.management import Management
from shared.observability import logging
from shared.settings import BrokerSettings
from shared.topology import provision
from tests.postgres import QUICK, PostgresNotInstalled, PrivatePostgres
from tests.rail import Rail
from tests.service.mail import MailServer, mail_server
from tests.support import DELAYS_VARIABLES, addresses_of

RETRY_DELAYS_SECONDS = (0.2, 0.5)
QUICK_RETRIES = dict.fromkeys(DELAYS_VARIABLES, "0.2,0.5")

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


@dataclass(frozen=True)
class Broker:
    """A broker that tests must not break: the AMQP URL of one of its virtual hosts, and its management HTTP API."""

    url: str
    management_url: str

    def amqp_url(self, vhost: str = "/") -> str:
        """The AMQP URL of a virtual host."""
        return urlsplit(self.url)._replace(path="/" + quote(vhost, safe="")).geturl()


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


@pytest_asyncio.fixture
async def rail(system: System) -> AsyncIterator[Rail]:
    """A client of `system`, once every service is ready: the test before may have left one starting."""
    async with Rail(system).ready() as client:
        yield client


@asynccontextmanager
async def virtual_host(broker: Broker, **more: object) -> AsyncIterator[BrokerSettings]:
    """A new virtual host with the topology applied; it is deleted afterwards. `more`: further settings."""
    vhost = f"test-{uuid.uuid4().hex[:12]}"
    settings = BrokerSettings.model_validate(
        {
            "rabbitmq_url": broker.amqp_url(vhost),
            "rabbitmq_management_url": broker.management_url,
            **{name.lower(): RETRY_DELAYS_SECONDS for name in DELAYS_VARIABLES},
            **more,
        }
    )
    await provision.apply(settings)
    yield settings
    async with Management(settings) as management:
        await management.delete("vhosts", vhost)

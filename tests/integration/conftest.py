"""The module's virtual host, and a publisher on it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.ids import new_id
from shared.messaging.publisher import Publisher
from shared.settings import BrokerSettings
from tests.support import ready


@pytest.fixture
def settings(module_broker_settings: BrokerSettings) -> BrokerSettings:
    return module_broker_settings


@pytest_asyncio.fixture
async def publisher(settings: BrokerSettings) -> AsyncIterator[Publisher]:
    # A name of its own: for a while the broker still lists the connections of earlier tests.
    async with ready(Publisher(settings.rabbitmq_url, f"test {new_id()}", exchanges=["orders"])) as publisher:
        yield publisher

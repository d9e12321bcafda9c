"""A publisher on the module's virtual host."""

from collections.abc import AsyncIterator

import pytest_asyncio

from shared.ids import new_id
from shared.messaging.publisher import Publisher
from shared.settings import BrokerSettings
from tests.support import ready


@pytest_asyncio.fixture
async def publisher(module_broker_settings: BrokerSettings) -> AsyncIterator[Publisher]:
    # A name of its own: for a while the broker still lists the connections of earlier tests.
    url = module_broker_settings.rabbitmq_url
    async with ready(Publisher(url, f"test {new_id()}", exchanges=["orders"])) as publisher:
        yield publisher

"""The order service's tables, on both databases."""

from collections.abc import AsyncIterator

import pytest_asyncio

from order_service import store
from shared.persistence.database import Database
from tests.support import new_database, ready


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with ready(new_database(database_url, store.metadata, name="orders")) as database:
        yield database


@pytest_asyncio.fixture
async def replica(database: Database, database_url: str) -> AsyncIterator[Database]:
    """A second replica on the same tables."""
    async with ready(new_database(database_url, store.metadata, name="replica")) as replica:
        yield replica

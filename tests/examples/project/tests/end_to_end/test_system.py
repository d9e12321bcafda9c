"""The whole system: a greeting goes all the way, and what can't be handled is set aside and sent back."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from control_room.launcher.system import System
from control_room.operations.dead_letters.parked import connected
from control_room.operations.dead_letters.redrive import redrive
from control_room.operations.dead_letters.selection import Group, Selection, groups
from shared.testing.waiting import eventually


@pytest_asyncio.fixture
async def http(system: System) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the greeting service."""
    async with httpx.AsyncClient(base_url=system.url("greeting_service"), trust_env=False) as client:
        yield client


async def request(http: httpx.AsyncClient, **greeting: str) -> str:
    """The path of a new greeting."""
    answer = await http.post("/greetings", json=greeting)
    assert answer.status_code == 202
    return answer.headers["Location"]


async def dead_letters(system: System) -> list[Group]:
    async with connected(system.broker_settings.rabbitmq_url) as connection:
        return list(await groups(connection, Selection(), 10))


async def test_a_greeting_is_written_soon_after_it_was_requested(http: httpx.AsyncClient) -> None:
    path = await request(http, name="Ada", language="fr")

    async def written() -> dict[str, Any]:
        greeting: dict[str, Any] = (await http.get(path)).json()
        assert greeting["status"] == "written"
        return greeting

    assert (await eventually(written, 20, "the greeting to be written"))["text"] == "Bonjour, Ada!"


async def test_what_can_not_be_handled_is_set_aside_and_can_be_sent_back(
    system: System, http: httpx.AsyncClient
) -> None:
    path = await request(http, name="Ada", language="tlh")

    async def parked(redrives: int) -> bool:
        found = [(each.queue, each.cause, [one.redrives for one in each.first]) for each in await dead_letters(system)]
        return found == [("greeting_service.write", "unknown-language", [redrives])]

    await eventually(lambda: parked(0), 20, "the dead letter")
    async with connected(system.broker_settings.rabbitmq_url) as connection:
        assert await redrive(system.broker_settings.rabbitmq_url, connection, Selection(), rate=100) == 1
    await eventually(lambda: parked(1), 20, "the dead letter, which nobody has mended")
    assert (await http.get(path)).json()["status"] == "requested"

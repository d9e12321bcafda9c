"""Helpers for every test: waiting for what must become true, without sleeping for it."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, overload

import psutil
import pytest
from sqlalchemy import Connection, MetaData

from control_room.operations.replicas import parsed
from shared.contract import services
from shared.events import Event, decode
from shared.persistence import schema
from shared.persistence.backends import backend_of
from shared.persistence.database import Database
from shared.persistence.outbox import Outbox
from shared.service import Component
from shared.settings import BrokerSettings, delays_variables
from shared.waiting import poll

Seen = TypeVar("Seen")
Started = TypeVar("Started", bound=Component)

POLL_SECONDS = 0.02
DELAYS_VARIABLES = tuple(delays_variables())
SERVICES = tuple(contract.name for contract in services())


@overload
async def eventually(
    look: Callable[[], Awaitable[Seen]], timeout_seconds: float = ..., expecting: str = ...
) -> Seen: ...


@overload
async def eventually(look: Callable[[], Seen], timeout_seconds: float = ..., expecting: str = ...) -> Seen: ...


async def eventually(look: Callable[[], Any], timeout_seconds: float = 10.0, expecting: str = "something true") -> Any:
    """Call `look` again and again until it returns something true, and return that.

    `look` may be a coroutine function, and may use `assert`: a failed assertion counts as "not yet".
    Fails the test after `timeout_seconds`, with what was last seen.
    """

    async def probe() -> Any:
        seen = look()
        return await seen if inspect.isawaitable(seen) else seen

    try:
        seen = await poll(probe, within_seconds=timeout_seconds, every_seconds=POLL_SECONDS, not_yet=(AssertionError,))
    except AssertionError as problem:
        pytest.fail(f"waited {timeout_seconds:g} s for {expecting}; last saw a failed assertion: {problem}")
    if not seen:
        pytest.fail(f"waited {timeout_seconds:g} s for {expecting}; last saw {seen!r}")
    return seen


async def start_ready(component: Component) -> None:
    """Start a component of a service, and wait until it has all that it needs: a busy machine may take its time."""
    await component.start()
    await eventually(lambda: component.problem() is None, 30, "it to be ready")


@asynccontextmanager
async def ready(component: Started) -> AsyncIterator[Started]:
    """The component, started and ready, until the block ends."""
    await start_ready(component)
    try:
        yield component
    finally:
        await component.stop()


def create_tables(url: str, metadata: MetaData) -> None:
    """What migrations would make, without a history: for tests of a part that has tables of its own."""
    engine = backend_of(url).engine
    for each in (metadata, schema.every_database):
        each.create_all(engine)
    engine.dispose()


def new_database(url: str, metadata: MetaData, *, name: str) -> Database:
    """A database that has its tables, not started."""
    create_tables(url, metadata)
    return Database(url, metadata, name=name)


async def outbox_events(database: Database, outbox: Outbox) -> list[Event]:
    """The events that wait in the outbox, oldest first."""

    def read(connection: Connection, limits: list[int]) -> list[list[Event]]:
        return [[decode(row.message.body) for row in outbox.waiting(connection, limit)] for limit in limits]

    return await database.read(read, 1000)


async def never(look: Callable[[], bool], seconds: float, unexpected: str) -> None:
    """Fail the test as soon as `look` returns something true within these seconds: for what must not happen."""

    async def probe() -> bool:
        return look()

    assert not await poll(probe, within_seconds=seconds, every_seconds=POLL_SECONDS), unexpected


def metric(page: str, name: str, **labels: str) -> float:
    """The sum of the samples of `order_rail_<name>` on a page of /metrics that carry these labels."""
    names = {f"order_rail_{name}", f"order_rail_{name}_total"}
    return sum(each.value for each in parsed(page) if each.name in names and labels.items() <= each.labels.items())


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def addresses_of(settings: BrokerSettings) -> dict[str, str]:
    """The environment variables that lead to a broker."""
    return {"RABBITMQ_URL": settings.rabbitmq_url, "RABBITMQ_MANAGEMENT_URL": settings.management_url}

"""Helpers for every test: waiting for what must become true, without sleeping for it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import pytest

from shared.service import Part
from shared.settings import BrokerSettings

Seen = TypeVar("Seen")

POLL_SECONDS = 0.02


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
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    while True:
        seen, problem = await _look(look)
        if seen and problem is None:
            return seen
        if asyncio.get_running_loop().time() > deadline:
            last = f"a failed assertion: {problem}" if problem is not None else repr(seen)
            pytest.fail(f"waited {timeout_seconds:g} s for {expecting}; last saw {last}")
        await asyncio.sleep(POLL_SECONDS)


async def start_ready(part: Part) -> None:
    """Start a part of a service, and wait until it has all that it needs: a busy machine may take its time."""
    await part.start()
    await eventually(lambda: part.problem() is None, 30, "it to be ready")


async def never(look: Callable[[], bool], seconds: float, unexpected: str) -> None:
    """Fail the test as soon as `look` returns something true within these seconds: for what must not happen."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        assert not look(), unexpected
        await asyncio.sleep(POLL_SECONDS)


async def _look(look: Callable[[], Any]) -> tuple[Any, AssertionError | None]:
    try:
        seen = look()
        return (await seen if inspect.isawaitable(seen) else seen), None
    except AssertionError as problem:
        return None, problem


def addresses_of(settings: BrokerSettings) -> dict[str, str]:
    """The environment variables that lead to a broker."""
    return {"RABBITMQ_URL": settings.rabbitmq_url, "RABBITMQ_MANAGEMENT_URL": settings.management_url}

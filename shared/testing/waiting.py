"""Waiting for what must become true, without sleeping for it."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import pytest

from shared.waiting import poll

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


async def never(look: Callable[[], bool], seconds: float, unexpected: str) -> None:
    """Fail the test as soon as `look` returns something true within these seconds: for what must not happen."""

    async def probe() -> bool:
        return look()

    if await poll(probe, within_seconds=seconds, every_seconds=POLL_SECONDS):
        pytest.fail(unexpected)

"""Waiting for what this service itself needs, such as its database."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, stop_never, wait_random_exponential

from shared.messaging.retry import NotReady

FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 3.0

Result = TypeVar("Result")


async def until_ready(
    function: Callable[..., Awaitable[Result]],
    *arguments: Any,
    limit_seconds: float | None = None,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """Call `function`, which has just raised `NotReady`, again after pauses; after `limit_seconds` that is raised.

    The first call is left to the caller, since tenacity costs more time than a handler.
    """
    await pause(random.uniform(0, FIRST_PAUSE_SECONDS))
    retrying = AsyncRetrying(
        sleep=pause,
        retry=retry_if_exception_type(NotReady),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE_SECONDS, max=MAX_PAUSE_SECONDS),
        stop=stop_never if limit_seconds is None else stop_after_delay(limit_seconds),
        reraise=True,
    )
    return await retrying(function, *arguments)

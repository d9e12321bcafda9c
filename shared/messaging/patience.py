"""Waiting for what this service itself needs, such as its database."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, stop_never, wait_random_exponential

from shared.messaging.retry import NotReady

MAX_PAUSE_SECONDS = 3.0

Result = TypeVar("Result")


async def while_not_ready(
    function: Callable[..., Awaitable[Result]], *arguments: Any, limit_seconds: float | None = None
) -> Result:
    """Call it, and again for as long as it raises `NotReady`; after `limit_seconds` that is raised."""
    try:  # the usual case goes without tenacity, which costs more than a handler
        return await function(*arguments)
    except NotReady:
        pass
    patience = AsyncRetrying(
        retry=retry_if_exception_type(NotReady),
        wait=wait_random_exponential(multiplier=0.2, max=MAX_PAUSE_SECONDS),
        stop=stop_never if limit_seconds is None else stop_after_delay(limit_seconds),
        reraise=True,
    )
    return await patience(function, *arguments)

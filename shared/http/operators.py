"""Operators' calls: the bearer token, and the audit stream."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic_core import to_json

from shared.http.problems import BrokenOff, Problem
from shared.persistence.failures import DatabaseUnavailable

NDJSON = "application/x-ndjson"
PAGE_ROWS = 1000

logger = structlog.get_logger(__name__)

_bearer = HTTPBearer(auto_error=False, description="The value of OPERATOR_TOKEN")


async def operator(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> None:
    """Dependency: lets the call through only with `Authorization: Bearer $OPERATOR_TOKEN`; raises 401 else."""
    token: str = request.app.state.operator_token
    if not token:
        raise _denied("OPERATOR_TOKEN is not set for this service, so operators' calls are off")
    if given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
        raise _denied("an operator's call needs the header Authorization: Bearer <OPERATOR_TOKEN>")


def _denied(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


Row = tuple[Any, dict[str, Any]]
ReadPage = Callable[[Any], Awaitable[Sequence[Row]]]
"""`read_page(after)`: the next rows as (key, row), at most `PAGE_ROWS`, by key; `after` is None for the first page."""


async def ndjson(*sources: ReadPage) -> StreamingResponse:
    """Each source from its first row to its last, one JSON object a line, in constant memory.

    The first page is read here, so that a database that is away is an answer of its own: raises what `read_page` does.
    """
    return StreamingResponse(_lines(sources, await sources[0](None)), media_type=NDJSON)


async def _lines(sources: Sequence[ReadPage], page: Sequence[Row]) -> AsyncIterator[bytes]:
    try:
        for source in sources:
            page = page if source is sources[0] else await source(None)
            while page:
                yield b"".join(to_json(row) + b"\n" for _, row in page)
                page = await source(page[-1][0])
    except DatabaseUnavailable as error:
        logger.warning("stream broken off", error=str(error))
        raise BrokenOff from None

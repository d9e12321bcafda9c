"""Operators' calls: the bearer token, and the audit stream."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic_core import to_json

from shared.http.problems import Problem

NDJSON = "application/x-ndjson"
PAGE_ROWS = 1000

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


def ndjson(*sources: ReadPage) -> StreamingResponse:
    """Each source from its first row to its last, one JSON object a line, in constant memory."""
    return StreamingResponse(_lines(sources), media_type=NDJSON)


async def _lines(sources: Sequence[ReadPage]) -> AsyncIterator[bytes]:
    for read_page in sources:
        after = None
        while page := await read_page(after):
            after = page[-1][0]
            yield b"".join(to_json(row) + b"\n" for _, row in page)

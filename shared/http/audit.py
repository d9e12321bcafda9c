"""`GET /audit`: every record that a service keeps, for operators who compare it with those of other services."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import Response, StreamingResponse
from pydantic_core import to_json

from shared.http.operators import operator
from shared.http.problems import BrokenOff, documented
from shared.messaging.retry import NotReady, TransientError
from shared.persistence.database import Database
from shared.persistence.pages import Page, ReadPages

NDJSON = "application/x-ndjson"
PAGE_ROWS = 1000

logger = structlog.get_logger(__name__)


Record = tuple[Any, dict[str, Any]]
"""A row's key, and the JSON object that it becomes."""


class Source(Protocol):
    """Records that can be read page by page."""

    async def page(self, after: Any) -> Sequence[Record]:
        """The next records by key; `after` is the key of the last one before, None for the first page."""
        ...


@dataclass(frozen=True)
class AuditSource:
    """One table's records. `shape`: the JSON object of a row."""

    database: Database
    read_pages: ReadPages
    shape: Callable[[Any], dict[str, Any]]

    async def page(self, after: str | None) -> Sequence[Record]:
        rows = await self.database.read(self.read_pages, Page(after, PAGE_ROWS))
        return [(self.read_pages.key_of(row), self.shape(row)) for row in rows]


def audit_router(sources: Sequence[Source]) -> APIRouter:
    """The call `GET /audit`, which streams each source from its oldest record to its newest."""
    router = APIRouter(tags=["operators"], dependencies=[Depends(operator)])

    @router.get(
        "/audit",
        response_class=Response,
        responses={200: {"description": "One record a line", "content": {NDJSON: {}}}, **documented(401, 503)},
    )
    async def audit() -> StreamingResponse:
        """Every record of this service, oldest first, one JSON object a line."""
        return await ndjson(sources)

    return router


async def ndjson(sources: Sequence[Source]) -> StreamingResponse:
    """The records of each source, one JSON object a line, in constant memory.

    The first page is read here, so that a database that is away gives a 503 and not a broken stream.
    """
    return StreamingResponse(_lines(sources, await sources[0].page(None)), media_type=NDJSON)


async def _lines(sources: Sequence[Source], page: Sequence[Record]) -> AsyncIterator[bytes]:
    try:
        for source in sources:
            page = page if source is sources[0] else await source.page(None)
            while page:
                yield b"".join(to_json(record) + b"\n" for _, record in page)
                page = await source.page(page[-1][0])
    except (NotReady, TransientError) as error:  # a database, or an outside system
        logger.warning("audit.broken_off", error=str(error))
        raise BrokenOff from None

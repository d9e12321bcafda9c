"""Our HTTP server with limits that a test can wait for, in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from control_room.launcher.ports import free_ports
from shared.http.application import create_app
from shared.http.audit import Record, ndjson
from shared.http.limits import Limits
from shared.http.server import HttpServer
from shared.persistence.failures import DatabaseUnavailable
from shared.tuning import new_event_loop

SHORT = {"request_seconds": 1.0, "linger_seconds": 0.3, "unread_seconds": 0.5, "idle_seconds": 1}

router = APIRouter()
streams: list[str] = []
"""One entry for each stream of zeros that is under way."""


@router.post("/length")
async def length(request: Request) -> int:
    return len(await request.body())


@router.get("/headers")
async def headers(request: Request) -> list[str]:
    """Their names, read after the body."""
    await request.body()
    return list(request.headers)


@router.get("/endless")
async def endless() -> StreamingResponse:
    """Zeros without end. It yields to the event loop now and then, as all that waits for a database does."""

    async def zeros() -> AsyncIterator[bytes]:
        streams.append("zeros")
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)
        finally:
            streams.pop()

    return StreamingResponse(zeros(), media_type="application/octet-stream")


class BrokenSource:
    """So many pages of an audit, then an error: a database that is away, or a bug if the number is negative."""

    def __init__(self, pages: int) -> None:
        self._pages = pages

    async def page(self, after: int | None) -> list[Record]:
        page = (after or 0) + 1
        if page > abs(self._pages):
            raise DatabaseUnavailable("connection refused") if self._pages >= 0 else ZeroDivisionError("a bug")
        return [(page, {"page": page})]


@router.get("/audit/{pages}")
async def audit(pages: int) -> Response:
    return await ndjson([BrokenSource(pages)])


@router.get("/bug")
async def bug() -> None:
    raise ZeroDivisionError("a bug")


@asynccontextmanager
async def limited(**limits: Any) -> AsyncIterator[int]:
    """The server's port."""
    (port,) = free_ports(1)
    app = create_app(title="Limited", description="", operator_token="")
    app.include_router(router)
    server, loop = HttpServer(app, "127.0.0.1", port, Limits(**limits)), new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def in_thread(work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    try:
        await in_thread(server.start())
        yield port
        await in_thread(server.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        streams.clear()  # the loop ends no stream that is still under way

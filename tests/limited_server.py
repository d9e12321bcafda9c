"""`python -m tests.limited_server PORT LIMITS`: our HTTP server with other limits, a JSON object, and a few calls."""

import asyncio
import json
import signal
import sys
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from shared.http.application import create_app
from shared.http.audit import Record, ndjson
from shared.http.limits import Limits
from shared.http.server import HttpServer
from shared.observability import logging
from shared.persistence.failures import DatabaseUnavailable
from shared.tuning import new_event_loop

app = create_app(title="Limited", description="", operator_token="")
streams = 0


@app.post("/length")
async def length(request: Request) -> int:
    """Of the body."""
    return len(await request.body())


@app.get("/headers")
async def headers(request: Request) -> list[str]:
    """Their names, read after the body."""
    await request.body()
    return list(request.headers)


@app.get("/endless")
async def endless() -> StreamingResponse:
    """Zeros, as long as anybody takes them. It gives way now and then, as all that waits for a database does."""

    async def zeros() -> Any:
        global streams  # noqa: PLW0603 - a test asks for it
        streams += 1
        try:
            while True:
                yield bytes(65536)
                await asyncio.sleep(0)
        finally:
            streams -= 1

    return StreamingResponse(zeros(), media_type="application/octet-stream")


@app.get("/streams")
async def how_many() -> int:
    """Of those are under way."""
    return streams


@app.get("/audit/{pages}")
async def audit(pages: int) -> Response:
    """So many pages; then the database is gone. With -1 there is a bug on the second."""

    class Source:
        async def page(self, after: int | None) -> list[Record]:
            page = (after or 0) + 1
            if page > abs(pages):
                raise DatabaseUnavailable("connection refused") if pages >= 0 else ZeroDivisionError("a bug")
            return [(page, {"page": page})]

    return await ndjson([Source()])


@app.get("/bug")
async def bug() -> None:
    """An error of ours."""
    raise ZeroDivisionError("a bug")


async def _serve(port: int, limits: Limits) -> None:
    stop_asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop_asked.set)
    server = HttpServer(app, "127.0.0.1", port, limits)
    await server.start()
    await stop_asked.wait()
    await server.stop()


if __name__ == "__main__":
    logging.configure("limited", "console")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), Limits(**json.loads(sys.argv[2]))))

"""Serves the page from an event loop that runs already, and leaves signals to whoever runs that."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from nicegui import ui
from starlette.requests import Request

from control_room.page import access, layout
from control_room.page.room import Room
from shared.http import address

GRACE_SECONDS = 1
RECONNECT_SECONDS = 10.0
MESSAGES_KEPT = 100
"""Updates that a viewer who was away for a moment gets later; the whole page is sent anew to one who missed more."""
FAVICON = Path(__file__).with_name("favicon.svg")


@asynccontextmanager
async def serving(room: Room, host: str, port: int) -> AsyncIterator[None]:
    """Serve the room's page while the block runs. A process can do so once. Raises OSError if the port is taken."""
    listening = address.listen(host, port)
    config = uvicorn.Config(
        _application(room), log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=GRACE_SECONDS
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]), name="control room")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


def _application(room: Room) -> FastAPI:
    app = FastAPI(title="Order Rail: the control room", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}  # what is wrong with the system is said on the page, and is no fault of the page

    @ui.page("/")
    def page(request: Request) -> Response | None:
        token = room.addresses.operator_token
        answer = access.entered(request, token)
        if answer is None:
            layout.build(room, access.viewer_of(request, token), request.query_params.get("order", ""))
        return answer

    ui.run_with(
        app, title="Order Rail: control room", dark=None, tailwind=False, show_welcome_message=False,
        language="en-US", favicon=FAVICON, reconnect_timeout=RECONNECT_SECONDS, message_history_length=MESSAGES_KEPT,
        binding_refresh_interval=None,
    )  # fmt: skip
    return app


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # whoever runs the loop handles them

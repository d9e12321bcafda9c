"""Serves the page in a running event loop, and leaves signals to the code that started the loop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from nicegui import app as framework
from nicegui import ui
from starlette.requests import Request

from control_room.dashboard.page import access, layout
from control_room.dashboard.page.panels import PANELS
from control_room.dashboard.page.parts import Page
from control_room.dashboard.page.room import Room
from control_room.dashboard.page.whole_body import WholeBody
from control_room.text import SYSTEM
from shared.http import problems
from shared.http.limits import Limits
from shared.http.middleware import HeadAsGet
from shared.http.server import Server

GRACE_SECONDS = 1
RECONNECT_SECONDS = 10.0
MESSAGES_KEPT = 100
"""Updates kept for a browser that reconnects; one that has missed more gets the whole page again."""
MAX_MESSAGE_BYTES = 256 * 1024
"""For a message that a browser sends over its WebSocket: a click or an entry."""
NOWHERE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not found · {system}: control room</title>
<body style="font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem">
<main>
<h1>There is no such page</h1>
<p>The control room has nothing at <code style="overflow-wrap: anywhere">{path}</code>.</p>
<p><a href="/">To the control room</a></p>
</main>
</body>
</html>
"""
FAVICON = Path(__file__).with_name("favicon.svg")


@asynccontextmanager
async def serving(room: Room, host: str, port: int) -> AsyncIterator[None]:
    """Serve the page while the block runs, once per process. Raises OSError if the port is taken."""
    server = Server(
        _application(room), host, port, Limits(), lifespan="on", ws_max_size=MAX_MESSAGE_BYTES, ws_max_queue=8,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def _application(room: Room) -> FastAPI:
    app = FastAPI(title=f"{SYSTEM}: the control room", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(WholeBody)
    app.add_middleware(HeadAsGet)
    for each in (app, framework):
        each.router.redirect_slashes = False  # it would redirect to http://, and to whatever host the client names
        each.add_exception_handler(405, problems.response_to)
    for kind in (problems.Problem, RequestValidationError):
        app.add_exception_handler(kind, problems.response_to)

    @app.get("/livez")
    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}  # also while the system has problems: the page shows them

    for serve in filter(None, (panel.serve for panel in PANELS)):
        serve(app, room)

    @ui.page("/")
    def control_room(request: Request) -> Response | None:
        token = room.addresses.operator_token
        answer = access.entered(request, token)
        if answer is None:
            page = Page(room, access.may_act(request, token), request.query_params)
            layout.build(page, is_refused=access.REFUSED in request.query_params)
        return answer

    @framework.exception_handler(404)
    async def nowhere(request: Request, _error: Exception) -> Response:
        return HTMLResponse(NOWHERE.format(system=SYSTEM, path=escape(request.url.path[:200])), 404)

    ui.run_with(
        app, title=f"{SYSTEM}: control room", dark=None, tailwind=False, show_welcome_message=False,
        language="en-US", favicon=FAVICON, reconnect_timeout=RECONNECT_SECONDS, message_history_length=MESSAGES_KEPT,
        binding_refresh_interval=None,
    )  # fmt: skip
    return app

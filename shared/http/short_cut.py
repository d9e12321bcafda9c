"""A short cut to the one call that everything else waits for: past what a framework does for calls in general."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http.problems import response_to

Endpoint = Callable[[Request], Awaitable[Response]]


class ShortCut:
    """Hands the requests of one method and path straight to `endpoint`, and all others on to the application.

    The endpoint is a route of the application too: that is where it is described, and where other methods are refused.
    It takes the bare request, so there it does the same.
    """

    def __init__(self, app: ASGIApp, method: str, path: str, endpoint: Endpoint) -> None:
        self._app = app
        self._method = method
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != self._method:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except Exception as error:  # noqa: BLE001 - it raises those that are no answer to the client
            response = await response_to(request, error)
        await response(scope, receive, send)

"""A short cut past FastAPI's request handling, which costs more than the rest of a fast call, for single calls."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http.middleware import BodyLimit, HeadAsGet
from shared.http.problems import response_to

Endpoint = Callable[[Request], Awaitable[Response]]


class Application(FastAPI):
    """FastAPI, with short cuts to some endpoints.

    Such an endpoint takes the bare request and returns a response. It is a route as well, for its description and to
    refuse other methods.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._short_cuts: dict[tuple[str, str], ASGIApp] = {}
        self._framework = HeadAsGet(super().__call__)

    def add_short_cut(self, method: str, path: str, endpoint: Endpoint) -> None:
        """From now on such requests go straight to `endpoint`."""
        self._short_cuts[method, path] = BodyLimit(_EndpointApplication(self, endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        short_cut = self._short_cuts.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (short_cut or self._framework)(scope, receive, send)


class _EndpointApplication:
    """An endpoint as an ASGI application: it answers with the endpoint's response, or with a problem."""

    def __init__(self, app: FastAPI, endpoint: Endpoint) -> None:
        self._app, self._endpoint = app, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._app
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except Exception as error:  # noqa: BLE001 - every error is answered with a problem
            response = await response_to(request, error)
        await response(scope, receive, send)

"""A short cut to the one call that everything else waits for: past what a framework does for calls in general."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.http.middleware import BodyLimit, HeadAsGet
from shared.http.problems import response_to

Endpoint = Callable[[Request], Awaitable[Response]]


class Application(FastAPI):
    """FastAPI, with short cuts to some calls.

    An endpoint with a short cut is a route as well: that is where it is described, and where other methods are refused.
    It takes the bare request and returns a response, so it does the same on both ways.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._short_cuts: dict[tuple[str, str], ASGIApp] = {}
        self._long_way = HeadAsGet(super().__call__)

    def add_short_cut(self, method: str, path: str, endpoint: Endpoint) -> None:
        """From now on such requests go straight to `endpoint`."""
        self._short_cuts[method, path] = BodyLimit(_Straight(self, endpoint))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._short_cuts.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (way or self._long_way)(scope, receive, send)


class _Straight:
    """An endpoint as an application of its own: its answer, or the problem that its error is."""

    def __init__(self, app: FastAPI, endpoint: Endpoint) -> None:
        self._app = app
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._app
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except Exception as error:  # noqa: BLE001 - every error is answered with a problem
            response = await response_to(request, error)
        await response(scope, receive, send)

"""The HTTP server as a part of a service, and the three calls that every service answers."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import metrics
from shared.http import problems
from shared.http.problems import Problem, ProblemDetails

MAX_BODY_BYTES = 64 * 1024
GRACE_SECONDS = 2
"""How long requests under way may take to finish once the service is asked to stop."""


class Health(BaseModel):
    """`problems`: what is missing, a sentence each; empty when ready."""

    status: Literal["ok", "unavailable"]
    problems: list[str] = Field(default=[], examples=[["database: connection refused"]])


def create_app(
    *, title: str, description: str, operator_token: str, schemas: Sequence[type[BaseModel]] = ()
) -> FastAPI:
    """An application with problem details, the body limit, and `/livez`, `/readyz`, `/metrics`.

    `schemas`: models that its OpenAPI description refers to without FastAPI knowing.
    """
    app = FastAPI(title=title, description=description, version="1", redoc_url=None,
                  responses=problems.documented(405))  # fmt: skip
    app.state.operator_token = operator_token
    app.state.problems = list
    app.state.stopping = asyncio.Event()
    app.add_middleware(_BodyLimit)
    problems.install(app)
    app.include_router(_health)
    _describe(app, [*schemas, ProblemDetails])
    return app


def _describe(app: FastAPI, schemas: Sequence[type[BaseModel]]) -> None:
    """Add the schemas to the OpenAPI description, and leave out FastAPI's own shape of a validation error."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            description = describe()
            _, definitions = models_json_schema(
                [(schema, "validation") for schema in schemas], ref_template="#/components/schemas/{model}"
            )
            components = description.setdefault("components", {}).setdefault("schemas", {})
            components.update(definitions.get("$defs", {}))
            components.pop("HTTPValidationError", None)
            components.pop("ValidationError", None)
            _correct_validation_errors(description)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _correct_validation_errors(description: dict[str, Any]) -> None:
    """FastAPI documents a 422 of its own shape wherever there is a parameter; ours is a problem, as everywhere."""
    for path in description.get("paths", {}).values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"]["422"] = problems.documented(422)[422]


_health = APIRouter(tags=["health"])


@_health.get("/livez")
async def livez() -> Health:
    """The process runs and its event loop turns."""
    return Health(status="ok")


@_health.get("/readyz", responses={503: {"model": Health, "description": "Something it needs is missing"}})
async def readyz(request: Request, response: Response) -> Health:
    """Whether everything it needs is there: database, broker, topology."""
    found: list[str] = request.app.state.problems()
    if found:
        response.status_code = 503
    return Health(status="unavailable" if found else "ok", problems=found)


@_health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics_text() -> Response:
    """Prometheus' text format."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


class HttpServer:
    """Uvicorn in the service's own event loop, without its own signal handling."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    def report(self, problems: Callable[[], list[str]]) -> None:
        """Let `/readyz` say what these are when it is asked."""
        self._app.state.problems = problems

    async def start(self) -> None:
        """Raises `SystemExit` with a sentence if the port cannot be had."""
        listening = self._listen()
        config = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", ws="none", backlog=2048,
            timeout_graceful_shutdown=GRACE_SECONDS, timeout_keep_alive=30, server_header=False,
        )  # fmt: skip
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]), name="http server")

    async def stop(self) -> None:
        self._app.state.stopping.set()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        return None

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            return socket.create_server((self._host, self._port), family=family, backlog=2048)
        except OSError as error:
            raise SystemExit(f"HTTP_PORT: cannot listen on {self._host}:{self._port}: {error.strerror}") from None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the service handles them, for all its parts


class _BodyLimit:
    """Refuses a body over `MAX_BODY_BYTES` with 413, whether its length is declared or only found out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            await _too_large().response(scope["path"])(scope, receive, send)
            return
        await self._app(scope, _counted(receive), send)


def _counted(receive: Receive) -> Receive:
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return counting


def _too_large() -> Problem:
    return Problem(413, f"The body is over {MAX_BODY_BYTES} bytes")

"""The FastAPI application of a service: errors as problems, its OpenAPI description, and the calls about its health."""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from shared.http import delivery_log, docs, problems
from shared.http.middleware import BodyLimit
from shared.http.problems import ProblemDetails
from shared.http.short_cut import Application
from shared.observability import metrics


def _resources(request: Request) -> Any:
    return request.app.state.resources


RESOURCES = Depends(_resources)
"""A call's dependency: what its service was assembled with, as in `Annotated[Resources, RESOURCES]`."""


Status = Literal["ok", "degraded", "unavailable"]


class Health(BaseModel):
    """`problems`: one sentence for each thing that is missing. `degraded`: for each outside system that fails.

    Work for an outside system that fails waits, and goes on by itself.
    """

    status: Status
    problems: list[str] = Field(default=[], examples=[["database: connection refused"]])
    degraded: list[str] = Field(default=[], examples=[["the mail server, since 2026-11-26T18:30:00Z: it answers 421"]])


def create_app(
    *, title: str, description: str, operator_token: str, schemas: Sequence[type[BaseModel]] = ()
) -> Application:
    """An application with problem details, the body limit, and `/docs`, `/livez`, `/readyz`, `/metrics`.

    `schemas`: models that its OpenAPI description refers to and that no route declares.
    """
    app = Application(title=title, description=description, version="1", responses=problems.documented(405),
                      redirect_slashes=False,  # the Location would hold http:// and the host that the client sent
                      docs_url=None, redoc_url=None, swagger_ui_oauth2_redirect_url=None)  # fmt: skip
    app.state.operator_token = operator_token
    app.state.problems = app.state.degraded = list
    app.state.stopping = asyncio.Event()
    app.add_middleware(BodyLimit)
    problems.install(app)
    for router in (docs.router, _health, delivery_log.router):
        app.include_router(router)
    app.openapi = cache(lambda: _description(app, [*schemas, ProblemDetails]))  # type: ignore[method-assign]
    return app


def _description(app: FastAPI, schemas: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """FastAPI's OpenAPI description with our schemas, and with problems in place of its own validation errors."""
    description = FastAPI.openapi(app)
    models = [(schema, "validation") for schema in schemas]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components = description.setdefault("components", {}).setdefault("schemas", {})
    components.update(definitions["$defs"])
    for operation in (each for path in description["paths"].values() for each in path.values()):
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            operation["responses"] |= problems.documented(422)
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    return description


_health = APIRouter(tags=["health"])


@_health.get("/livez")
async def livez() -> Health:
    """The process runs, and its event loop answers."""
    return Health(status="ok")


@_health.get("/readyz", responses={503: {"model": Health, "description": "Something it needs is missing"}})
async def readyz(request: Request, response: Response) -> Health:
    """Whether everything that the service needs is there: database, broker, topology. 200 also if it is degraded."""
    missing: list[str] = request.app.state.problems()
    degraded: list[str] = request.app.state.degraded()
    if missing:
        response.status_code = 503
    status: Status = "unavailable" if missing else "degraded" if degraded else "ok"
    return Health(status=status, problems=missing, degraded=degraded)


@_health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics_text() -> Response:
    """Prometheus' text format."""
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)

"""What every service's application has: errors as problems, the OpenAPI description, and the calls about its health."""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from shared.http import delivery_log, docs, problems
from shared.http.body_limit import BodyLimit
from shared.http.problems import ProblemDetails
from shared.http.short_cut import Application
from shared.observability import metrics


def _resources(request: Request) -> Any:
    return request.app.state.resources


RESOURCES = Depends(_resources)
"""A call's dependency: what its service was assembled with, as in `Annotated[Resources, RESOURCES]`."""


class Health(BaseModel):
    """`problems`: what is missing, a sentence each; empty when ready."""

    status: Literal["ok", "unavailable"]
    problems: list[str] = Field(default=[], examples=[["database: connection refused"]])


def create_app(
    *, title: str, description: str, operator_token: str, schemas: Sequence[type[BaseModel]] = ()
) -> Application:
    """An application with problem details, the body limit, and `/docs`, `/livez`, `/readyz`, `/metrics`.

    `schemas`: models that its OpenAPI description refers to without FastAPI knowing.
    """
    app = Application(title=title, description=description, version="1", responses=problems.documented(405),
                      redirect_slashes=False,  # it would redirect to http:// and what the client says the host is
                      docs_url=None, redoc_url=None, swagger_ui_oauth2_redirect_url=None)  # fmt: skip
    app.state.operator_token = operator_token
    app.state.problems = list
    app.state.stopping = asyncio.Event()
    app.add_middleware(BodyLimit)
    problems.install(app)
    app.include_router(docs.router)
    app.include_router(_health)
    app.include_router(delivery_log.router)
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

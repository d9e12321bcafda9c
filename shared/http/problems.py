"""Every error of every service as `application/problem+json` (RFC 9457)."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route

from shared.ids import GIVEN_UUID_PATTERN, UUID_PATTERN
from shared.persistence.failures import CommitUnknown, DatabaseUnavailable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1

logger = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """What is wrong with one part of the request, and where it is: `items[0].quantity`."""

    field: str = Field(examples=["items[0].quantity"])
    detail: str = Field(examples=["Input should be less than or equal to 100"])


class ProblemDetails(BaseModel):
    """The body of every error."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["items[0].quantity: Input should be less than or equal to 100"])
    instance: str | None = Field(default=None, examples=["/orders"])
    errors: list[FieldError] | None = Field(default=None, description="One entry for each field that is wrong")


class Problem(Exception):
    """An error that the client is told: a status, a sentence, and the fields concerned."""

    def __init__(
        self, status: int, detail: str, *, errors: Sequence[FieldError] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers or {}

    @classmethod
    def of_fields(cls, errors: Sequence[FieldError], *, status: int = 422) -> "Problem":
        """One that names its fields in the sentence too."""
        return cls(status, "; ".join(f"{error.field}: {error.detail}" for error in errors[:5]), errors=errors)

    @classmethod
    def of_validation(cls, error: ValidationError | RequestValidationError) -> "Problem":
        return cls.of_fields([_field_error(entry) for entry in error.errors()])

    def response(self, path: str | None) -> Response:
        body = ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            instance=path,
            errors=self.errors or None,
        )
        return Response(
            body.model_dump_json(exclude_none=True), self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


class BrokenOff(Exception):
    """Ends an answer under way so that the client sees that it is not whole. What went wrong has been logged."""

    is_logged = True


def is_logged(error: BaseException | None) -> bool:
    """Whether the log tells of this very error already."""
    return bool(getattr(error, "is_logged", False))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may answer with these errors, for the OpenAPI description."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Turn every exception that reaches the edge of `app` into a problem."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def response_to(request: Request, error: Exception) -> Response:
    """The problem that `error` is to the client."""
    return await next(handler for kind, handler in _HANDLERS.items() if isinstance(error, kind))(request, error)


async def _problem(request: Request, error: Any) -> Response:
    response: Response = error.response(request.scope["path"])
    return response


async def _invalid(request: Request, error: Any) -> Response:
    return Problem.of_validation(error).response(request.scope["path"])


async def _http(request: Request, error: Any) -> Response:
    path = request.scope["path"]
    detail = f"{request.method} {path}: {error.detail}"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return Problem(error.status_code, detail, headers=headers).response(path)


async def _hung_up(request: Request, error: Exception) -> Response:
    """The client went away before its request was complete: nothing to log, and nobody reads this answer."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _unavailable(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    detail = "The service cannot reach its database now. Nothing was done; please try again."
    logger.warning("request refused", path=request.scope["path"], error=str(error))
    return Problem(503, detail, headers=headers).response(request.scope["path"])


async def _unknown(request: Request, error: Exception) -> Response:
    logger.warning("request of unknown outcome", path=request.scope["path"], error=str(error))
    return outcome_unknown("").response(request.scope["path"])


def outcome_unknown(advice: str) -> Problem:
    """The commit was left without an answer. `advice`: how the client can find out, if there is a way."""
    detail = f"The database did not answer in time: it is unknown whether this was done. {advice}".strip()
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _unexpected(request: Request, error: Exception) -> Response:
    if not is_logged(error):
        logger.error("request failed", path=request.scope["path"], exc_info=error)
        error.is_logged = True  # type: ignore[attr-defined]  # the framework raises it once more, for the server
    return Problem(500, "The service failed. The log says more.").response(request.scope["path"])


_HANDLERS: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
    Problem: _problem,
    RequestValidationError: _invalid,
    HTTPException: _http,
    ClientDisconnect: _hung_up,
    CommitUnknown: _unknown,  # before its base class
    DatabaseUnavailable: _unavailable,
    Exception: _unexpected,
}
"""In this order: the last one takes whatever is left."""


def _methods(request: Request) -> list[str]:
    """The methods of all routes of this path; the framework's own answer names those of the first alone."""
    matching = [route for route in _routes(request.app.routes) if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in route.methods or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)  # see `shared/http/head.py`


def _routes(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    for route in routes:
        included = getattr(route, "original_router", None)  # FastAPI keeps an included router whole
        if included is not None:
            yield from _routes(included.routes)
        elif isinstance(route, Route):
            yield route


def _field_error(entry: Any) -> FieldError:
    location = [part for part in entry["loc"] if part not in ("body", "query", "path", "header")]
    field = ""
    for part in location:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
    return FieldError(field=field or "body", detail=_sentence(entry))


def _sentence(entry: Any) -> str:
    match entry.get("ctx", {}).get("pattern"):
        case pattern if pattern == UUID_PATTERN:
            return "expected a UUID in lower case"
        case pattern if pattern == GIVEN_UUID_PATTERN:
            return "expected a UUID"
    return str(entry["msg"]).removeprefix("Value error, ")

"""Every error of every service as `application/problem+json` (RFC 9457)."""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Self

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route

from shared.ids import ID_PATTERN
from shared.persistence.failures import CommitUnknown, DatabaseUnavailable

MEDIA_TYPE = "application/problem+json"

logger = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """One field of the request that is wrong, and why."""

    field: str = Field(examples=["items[0].quantity"])
    detail: str = Field(examples=["Input should be less than or equal to 100"])


class ProblemDetails(BaseModel):
    """The body of every error."""

    type: str = Field(default="about:blank", examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["items[0].quantity: Input should be less than or equal to 100"])
    instance: str | None = Field(default=None, examples=["/parcels"])
    errors: list[FieldError] | None = Field(default=None, description="One entry for each field that is wrong")


class Problem(Exception):
    """An error that is sent to the client: a status, a sentence, and the fields that are wrong."""

    def __init__(
        self, status: int, detail: str, *, errors: Sequence[FieldError] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.errors, self.headers = list(errors), headers or {}

    @classmethod
    def of_field(cls, field: str, detail: str, *, status: int = 422) -> Self:
        return cls(status, f"{field}: {detail}", errors=[FieldError(field=field, detail=detail)])

    @classmethod
    def of_validation(cls, error: ValidationError | RequestValidationError) -> Self:
        """Its sentence names the first five fields."""
        errors = [_field_error(entry) for entry in error.errors()]
        return cls(422, "; ".join(f"{each.field}: {each.detail}" for each in errors[:5]), errors=errors)

    @classmethod
    def unavailable(cls, detail: str) -> Self:
        """A 503 that asks the client to try again after a second."""
        return cls(503, detail, headers={"Retry-After": "1"})

    @classmethod
    def outcome_unknown(cls, advice: str = "") -> Self:
        """A 503 for a commit whose answer was lost. `advice`: how the client can find out whether it was done."""
        return cls.unavailable(
            f"The database did not answer in time: it is unknown whether this was done. {advice}".strip()
        )

    def response(self, path: str | None) -> Response:
        """The answer; `path` is that of the request, None where it could not be read."""
        details = ProblemDetails(
            title=HTTPStatus(self.status).phrase, status=self.status, detail=self.detail, instance=path,
            errors=self.errors or None,
        )  # fmt: skip
        body = details.model_dump_json(exclude_none=True)
        return Response(body, self.status, headers=self.headers, media_type=MEDIA_TYPE)


class BrokenOff(Exception):
    """Closes the connection in the middle of an answer, so that the client sees that it is incomplete."""

    is_logged = True


def is_logged(error: BaseException | None) -> bool:
    """Whether this error is in the log already."""
    return bool(getattr(error, "is_logged", False))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors, for the OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Answer every exception that leaves a route of `app` with a problem."""
    for kind in (Problem, RequestValidationError, HTTPException, ClientDisconnect, DatabaseUnavailable, Exception):
        app.add_exception_handler(kind, response_to)


async def response_to(request: Request, error: Exception) -> Response:
    """The answer to a request that failed with `error`."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
    return _problem(request, error).response(request.scope["path"])


def _problem(request: Request, error: Exception) -> Problem:
    path = request.scope["path"]
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return Problem.of_validation(error)
        case HTTPException():
            return _http_problem(request, error)
        case CommitUnknown():
            logger.warning("http.outcome_unknown", path=path, error=str(error))
            return Problem.outcome_unknown()
        case DatabaseUnavailable():
            logger.warning("http.database_unavailable", path=path, error=str(error))
            return Problem.unavailable("The service cannot reach its database now. Nothing was done; please try again.")
    if not is_logged(error):
        logger.error("http.request_failed", path=path, exc_info=error)
        error.is_logged = True  # type: ignore[attr-defined]  # the framework raises it again, and the server logs it
    return Problem(500, "The service failed. The log says more.")


def _http_problem(request: Request, error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods(request))
    return Problem(error.status_code, f"{request.method} {request.scope['path']}: {error.detail}", headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods of all routes of this path. The framework itself names those of the first route only."""
    matching = [route for route in _routes(request.app.routes) if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in route.methods or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)  # `HeadAsGet` answers HEAD


def _routes(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    for route in routes:
        included = getattr(route, "original_router", None)  # FastAPI keeps an included router whole
        if included is not None:
            yield from _routes(included.routes)
        elif isinstance(route, Route):
            yield route


def _field_error(entry: Any) -> FieldError:
    """From an entry of pydantic's `errors()`; the field is written as its path, such as `items[0].quantity`."""
    parts = [part for part in entry["loc"] if part not in ("body", "query", "path", "header")]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    is_id = entry.get("ctx", {}).get("pattern") == ID_PATTERN
    detail = "expected a UUID" if is_id else str(entry["msg"]).removeprefix("Value error, ")
    return FieldError(field=field or "body", detail=detail)

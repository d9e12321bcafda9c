"""HTTP in and out of the greeting service."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from greeting_service import store
from greeting_service.greetings import Greeting, event_of, requested
from shared.http.application import RESOURCES
from shared.http.audit import AuditSource
from shared.http.problems import Problem, documented
from shared.ids import canonical
from shared.observability.tracing import start_span
from shared.persistence.database import Database
from shared.persistence.keyed import Recording

router = APIRouter(tags=["greetings"])
requested_greetings = Counter("order_rail_greetings_requested", "Greetings answered with 202")

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern="^[^\\x00-\\x1f\\x7f]*$")
]


class GreetingRequest(BaseModel):
    """Whom to greet, and in which language (ISO 639)."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(examples=["Ada"])
    language: str = Field(default="en", pattern="^[a-z]{2,3}$", examples=["en"])


class GreetingView(BaseModel):
    """`text` is empty until the status is `written`."""

    greeting_id: str
    status: str = Field(examples=["requested"])
    name: str
    language: str
    text: str
    at: AwareDatetime


@router.post("/greetings", status_code=202, responses=documented(400, 413, 422, 503))
async def request_greeting(
    request: Request, response: Response, database: Annotated[Database, RESOURCES], wanted: GreetingRequest
) -> GreetingView:
    """Take a request. The answer comes once it is safe on disk, together with its event; the rest happens later."""
    start_span(request.headers.get("traceparent"))
    greeting = requested(wanted.name, wanted.language)
    await database.write(store.greetings.record, Recording(greeting, event_of(greeting)))
    requested_greetings.inc()
    response.headers["Location"] = f"/greetings/{greeting.greeting_id}"
    return _view(greeting)


@router.get("/greetings/{greeting_id}", responses=documented(404, 503))
async def read_greeting(database: Annotated[Database, RESOURCES], greeting_id: str) -> GreetingView:
    """A greeting as it is now."""
    known_as = canonical(greeting_id)
    greeting = await database.read(store.greetings.get, known_as) if known_as else None
    if greeting is None:
        raise Problem(404, f"greeting_id: there is no greeting {greeting_id[:100]}")
    return _view(greeting)


def _view(greeting: Greeting) -> GreetingView:
    return GreetingView.model_validate(greeting, from_attributes=True)


def audit_source(database: Database) -> AuditSource:
    """Every greeting, for `GET /audit`."""
    return AuditSource(database, store.greetings.pages, _audit_row)


def _audit_row(row: Any) -> dict[str, Any]:
    return {"kind": "greeting", "greeting_id": row.greeting_id, "status": row.status, "at": row.at}

"""HTTP out of the notification service."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from notification_service import store
from notification_service.notifications import Notification, Status
from shared.http.operators import NDJSON, PAGE_ROWS, Row, ndjson, operator
from shared.http.problems import documented
from shared.ids import GivenId
from shared.persistence.database import Database

DESCRIPTION = "Tells customers and the restaurant. Notifications are made by events; here they can be looked at."


@dataclass(frozen=True)
class Parts:
    """What the calls below work with; `app.py` puts it into the application's state."""

    database: Database


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


WithParts = Annotated[Parts, Depends(_parts)]

router = APIRouter(tags=["notifications"])


class NotificationView(BaseModel):
    order_id: str
    channel: str = Field(examples=["email"])
    notice: str = Field(examples=["receipt"])
    status: Status
    attempts: int
    at: AwareDatetime


@router.get("/notifications", responses=documented(422, 503))
async def list_notifications(
    parts: WithParts,
    order_id: Annotated[GivenId, Query(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])],
) -> list[NotificationView]:
    """Who has been told of an order, and over which channel; empty for an order that nobody was told of yet."""
    found = await parts.database.read(store.of_orders, order_id)
    return [NotificationView.model_validate(notification, from_attributes=True) for notification in found]


@router.get(
    "/audit",
    tags=["operators"],
    dependencies=[Depends(operator)],
    response_class=Response,
    responses={200: {"description": "One notification a line", "content": {NDJSON: {}}}, **documented(401, 503)},
)
async def audit(parts: WithParts) -> StreamingResponse:
    """Every notification, oldest order first."""

    async def read_page(after: str | None) -> list[Row]:
        page = await parts.database.read(store.audit_page, (after, PAGE_ROWS))
        return [(notification.idempotency_key, _audit_row(notification)) for notification in page]

    return await ndjson(read_page)


def _audit_row(notification: Notification) -> dict[str, Any]:
    return {
        "kind": "notification",
        "order_id": notification.order_id,
        "channel": notification.channel,
        "status": notification.status,
        "notice": notification.notice,
        "at": notification.at,
    }

"""HTTP out of the notification service."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from notification_service import store
from notification_service.notifications import NotificationStatus
from shared.http.application import RESOURCES
from shared.http.audit import AuditSource
from shared.http.problems import documented
from shared.ids import GivenId
from shared.persistence.database import Database

router = APIRouter(tags=["notifications"])


class NotificationView(BaseModel):
    order_id: str
    channel: str = Field(examples=["email"])
    notice: str = Field(examples=["receipt"])
    status: NotificationStatus
    attempts: int
    at: AwareDatetime


@router.get("/notifications", responses=documented(422, 503))
async def list_notifications(
    database: Annotated[Database, RESOURCES],
    order_id: Annotated[GivenId, Query(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])],
) -> list[NotificationView]:
    """The notifications about an order, by channel; empty if there are none yet."""
    found = await database.read(store.of_orders, order_id)
    return [NotificationView.model_validate(notification, from_attributes=True) for notification in found]


def audit_source(database: Database) -> AuditSource:
    """Every notification, for `GET /audit`."""
    return AuditSource(database, store.records.pages, _audit_row)


def _audit_row(row: Any) -> dict[str, Any]:
    columns = ("order_id", "channel", "status", "notice", "at")
    return {"kind": "notification", **{name: getattr(row, name) for name in columns}}

"""HTTP out of the diary service."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel

from diary_service import store
from shared.http.application import RESOURCES
from shared.http.audit import AuditSource
from shared.http.problems import Problem, documented
from shared.ids import canonical
from shared.persistence.database import Database

router = APIRouter(tags=["diary"])


class EntryView(BaseModel):
    order_id: str
    cause: str
    at: AwareDatetime


@router.get("/diary/{order_id}", responses=documented(404, 503))
async def read_entry(database: Annotated[Database, RESOURCES], order_id: str) -> EntryView:
    """The entry of an order; 404 until there is one."""
    known_as = canonical(order_id)
    entry = await database.read(store.get, known_as) if known_as else None
    if entry is None:
        raise Problem(404, f"order_id: there is no entry of an order {order_id[:100]} yet")
    return EntryView.model_validate(entry, from_attributes=True)


def audit_source(database: Database) -> AuditSource:
    """Every entry, for `GET /audit`."""
    return AuditSource(database, store.pages, _audit_row)


def _audit_row(row: Any) -> dict[str, Any]:
    return {"kind": "diary", "order_id": row.order_id, "cause": row.cause, "at": row.at}

"""`GET /deliveries`, for operators: what this process has lately published and handled for a subject."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field

from shared.http.operators import operator
from shared.http.problems import documented
from shared.ids import GivenId
from shared.observability import delivery_log


class DeliveryNote(BaseModel):
    """`place`: the queue or HTTP call that it came from, or the exchange or queue that it was published to."""

    at: AwareDatetime
    act: Literal["published", "handled"]
    place: str = Field(examples=["parcels"])
    type: str | None = Field(examples=["parcel.sent.v1"])
    message_id: str | None
    attempt: int
    outcome: str = Field(examples=["done"])
    detail: str
    redelivered: bool


class DeliveryNotes(BaseModel):
    """`known_since`: what happened before is not recorded."""

    known_since: AwareDatetime
    deliveries: list[DeliveryNote]


router = APIRouter(tags=["operators"])


@router.get("/deliveries", dependencies=[Depends(operator)], responses=documented(401, 422))
async def read_deliveries(
    order_id: Annotated[GivenId, Query(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])],
) -> DeliveryNotes:
    """Every publish and every delivery about a subject, as far as this process remembers; oldest first."""
    notes = [note._asdict() | {"at": _time(note.at)} for note in delivery_log.about(order_id)]
    known_since = _time(delivery_log.known_since())
    return DeliveryNotes(known_since=known_since, deliveries=[DeliveryNote.model_validate(note) for note in notes])


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

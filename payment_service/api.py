"""HTTP out of the payment service."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, Field

from payment_service import store
from payment_service.payments import PaymentStatus
from shared.events import Money
from shared.http.application import RESOURCES
from shared.http.audit import AuditSource
from shared.http.problems import Problem, documented
from shared.ids import canonical
from shared.persistence.database import Database

router = APIRouter(tags=["payments"])


class PaymentView(BaseModel):
    """`detail`: why the charge was declined or given up. `attempts`: of the last step: the charge, or its refund."""

    order_id: str
    status: PaymentStatus
    amount: Money
    attempts: int
    at: AwareDatetime
    charge_id: str | None = Field(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])
    refund_id: str | None
    detail: str | None


@router.get("/payments/{order_id}", responses=documented(404, 503))
async def read_payment(
    database: Annotated[Database, RESOURCES],
    order_id: Annotated[str, Path(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])],
) -> PaymentView:
    """What became of an order's charge; 404 until that is known."""
    known_as = canonical(order_id)
    payment = await database.read(store.records.get, known_as) if known_as else None
    if payment is None:
        raise Problem(404, f"order_id: there is no payment of an order {order_id[:100]} yet")
    return PaymentView.model_validate(payment, from_attributes=True)


def audit_source(database: Database) -> AuditSource:
    """Every payment, for `GET /audit`."""
    return AuditSource(database, store.records.pages, _audit_row)


def _audit_row(row: Any) -> dict[str, Any]:
    return {
        "kind": "payment",
        "order_id": row.order_id,
        "status": row.status,
        "amount": {"amount_minor": row.amount_minor, "currency": row.currency},
        "at": row.at,
    }

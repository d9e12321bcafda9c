"""HTTP out of the payment service."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from payment_service import store
from payment_service.gateways import Gateway
from payment_service.payments import Payment, Status
from shared.events import Money
from shared.http.operators import NDJSON, PAGE_ROWS, Row, ndjson, operator
from shared.http.problems import Problem, documented
from shared.ids import canonical
from shared.persistence.database import Database

DESCRIPTION = "Charges each order once. Payments are made by events; here they can be looked at."


@dataclass(frozen=True)
class Parts:
    """What the calls below work with; `app.py` puts it into the application's state."""

    database: Database
    gateway: Gateway


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


WithParts = Annotated[Parts, Depends(_parts)]

router = APIRouter(tags=["payments"])


class PaymentView(BaseModel):
    """`detail`: why the charge was declined or given up."""

    order_id: str
    status: Status
    amount: Money
    attempts: int
    at: AwareDatetime
    charge_id: str | None = Field(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])
    detail: str | None


@router.get("/payments/{order_id}", responses=documented(404, 503))
async def read_payment(
    parts: WithParts, order_id: Annotated[str, Path(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])]
) -> PaymentView:
    """What became of an order's charge; 404 until there is an answer."""
    known_as = canonical(order_id)
    payment = await parts.database.read(store.get, known_as) if known_as else None
    if payment is None:
        raise Problem(404, f"order_id: there is no payment of an order {order_id[:100]} yet")
    return PaymentView.model_validate(payment, from_attributes=True)


@router.get(
    "/audit",
    tags=["operators"],
    dependencies=[Depends(operator)],
    response_class=Response,
    responses={200: {"description": "One payment or charge a line", "content": {NDJSON: {}}}, **documented(401, 503)},
)
async def audit(parts: WithParts) -> StreamingResponse:
    """Every payment, then every row of the gateway's own ledger, oldest first."""

    async def payments_page(after: str | None) -> list[Row]:
        payments = await parts.database.read(store.audit_page, (after, PAGE_ROWS))
        return [(payment.order_id, _payment_row(payment)) for payment in payments]

    async def charges_page(after: str | None) -> list[Row]:
        return [(row.charge_id, _charge_row(row)) for row in await parts.gateway.ledger_page(after, PAGE_ROWS)]

    return await ndjson(payments_page, charges_page)


def _payment_row(payment: Payment) -> dict[str, Any]:
    return {
        "kind": "payment",
        "order_id": payment.order_id,
        "status": payment.status,
        "amount": payment.amount.model_dump(),
        "at": payment.at,
    }


def _charge_row(row: Any) -> dict[str, Any]:
    return {
        "kind": "charge",
        "order_id": row.order_id,
        "charge_id": row.charge_id,
        "type": row.type,
        "amount": {"amount_minor": row.amount_minor, "currency": row.currency},
    }

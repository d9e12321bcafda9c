"""HTTP in and out of the order service."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from prometheus_client import Counter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from order_service import orders, store
from order_service.cancelling import cancelled_orders
from order_service.cancelling.store import Cancellation, Cancelled, Refused, cancel
from order_service.causal_order import Notification, in_order, notifications_of
from order_service.contract import CONTRACT
from order_service.idempotency import fingerprint, idempotency_key
from order_service.live import Changes, LiveTimelines, entry_json, has_more
from order_service.orders import (
    MENU,
    CancellationRules,
    MenuItem,
    Order,
    OrderRequest,
    OrderStatus,
    SweepDelays,
    UnknownDish,
    cancellation,
)
from shared.events import Money, OrderItem, OrderPlaced, OrderPlacedData, OrderSummary
from shared.http.application import RESOURCES
from shared.http.audit import AuditSource
from shared.http.json_body import check_names, json_body, not_json
from shared.http.operators import operator
from shared.http.problems import Problem, documented
from shared.ids import GivenId, canonical, new_id
from shared.observability.delivery_log import note_replayed
from shared.observability.tracing import start_span
from shared.persistence.database import Database
from shared.persistence.failures import CommitUnknown
from shared.persistence.pages import Page

DESCRIPTION = """Takes orders and answers at once; payment and notification follow through message queues.

Every error is `application/problem+json` (RFC 9457) and names the wrong field."""

MAX_PAGE_ORDERS = 100

accepted_orders = Counter("order_rail_orders_accepted", "Orders answered with 202, replays apart")


@dataclass(frozen=True)
class Resources:
    """What the calls below work with."""

    database: Database
    live: LiveTimelines
    changes: Changes
    rules: CancellationRules
    sweep_delays: SweepDelays


WithResources = Annotated[Resources, RESOURCES]
OrderIdInPath = Annotated[str, Path(examples=["019366b4-4a7e-7c3e-9d0a-3f2b8a6f1c55"])]

router = APIRouter(tags=["orders"])


@router.get("/menu")
async def menu() -> list[MenuItem]:
    """Every dish with its price."""
    return list(MENU.values())


class ListedOrder(BaseModel):
    order_id: str
    status: OrderStatus
    total: Money
    placed_at: AwareDatetime


class OrderAccepted(ListedOrder):
    """The order is safe on disk. `Location` leads to its further progress."""

    status: OrderStatus = OrderStatus.PLACED


@router.post(
    "/orders",
    status_code=202,
    response_model=OrderAccepted,
    responses=documented(400, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OrderRequest"}}},
        },
    },
)
async def place_order(request: Request) -> Response:
    """Place an order. Answers as soon as the order and its event are on disk, also while RabbitMQ is away.

    Send the header `Idempotency-Key` with a fresh UUID for each order, as in
    `Idempotency-Key: "8e03978e-40d5-43dd-bc93-6894a57f9324"`. Then it is safe to send the request again: the same key
    with the same body gives the first answer and `Idempotent-Replayed: true`; with another body it gives 422.
    """
    # The header is not declared as a parameter: a schema can't say that a valid key may be used already, and tools
    # that test the API against its description would report the 422 as an error.
    headers = request.scope["headers"]
    start_span(next((value.decode("latin-1") for name, value in headers if name == b"traceparent"), None))
    key = idempotency_key([value.decode("latin-1") for name, value in headers if name == b"idempotency-key"])
    order_request = await _read_order(request)
    summary = _priced(order_request)
    event = OrderPlaced.about(
        order_id := new_id(),
        id=order_id,  # so that the sweep can re-emit this event from the order's row alone
        source=CONTRACT.name,
        data=OrderPlacedData(order=summary, payment_token=order_request.payment_token),
    )
    request_fingerprint = fingerprint(order_request) if key else ""
    database = request.app.state.resources.database
    placed = await _place(database, store.Placement(event, key, request_fingerprint))
    if placed.order_id == event.subject:
        accepted_orders.inc()
        return _accepted_order(event.subject, summary, event.time)
    if placed.fingerprint != request_fingerprint:
        raise Problem.of_field("Idempotency-Key", "already used for another order; send a new key")
    note_replayed("POST /orders", placed.order_id)
    first = await database.read(store.get, placed.order_id)
    if first is None:
        raise Problem.unavailable("The order of this key cannot be read now")
    return _accepted_order(first.order_id, first.summary, first.placed_at, replayed=True)


async def _place(database: Database, placement: store.Placement) -> store.Placed:
    try:
        return await database.write(store.place, placement)
    except CommitUnknown:
        order_id = placement.event.subject
        if placement.idempotency_key:
            raise Problem.outcome_unknown(
                "Send the same request again, with the same Idempotency-Key: it is placed once."
            ) from None
        raise Problem.outcome_unknown(
            f"Check GET /orders/{order_id}: 404 means that the order was not placed. "
            "With an Idempotency-Key it would be safe to send the request again."
        ) from None


async def _read_order(request: Request) -> OrderRequest:
    """The validated body. FastAPI's own validation would cost more than the rest of this call."""
    body = await json_body(request)
    try:
        order = OrderRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise (not_json(first["msg"]) if first["type"] == "json_invalid" else Problem.of_validation(error)) from None
    # Each name in the JSON brings a colon. With as many colons as known fields, no name is repeated or unknown.
    names = len(order.model_fields_set) + sum(len(item.model_fields_set) for item in order.items)
    if body.count(b":") != names:
        check_names(body)
    return order


def _priced(order: OrderRequest) -> OrderSummary:
    try:
        return orders.price(order)
    except UnknownDish as error:
        raise Problem.of_field(f"items[{error.index}].sku", str(error)) from None


def _accepted_order(order_id: str, summary: OrderSummary, placed_at: datetime, *, replayed: bool = False) -> Response:
    return _accepted(order_id, OrderAccepted(order_id=order_id, total=summary.total, placed_at=placed_at), replayed)


def _accepted(order_id: str, body: BaseModel, replayed: bool) -> Response:
    headers = {"Location": f"/orders/{order_id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(body.model_dump_json(), 202, headers=headers, media_type="application/json")


class TimelineItem(BaseModel):
    """An event's type and time, and details that depend on the type: amount, reason, error, channel, attempts."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["payment.succeeded.v1"])
    at: AwareDatetime


class CancellationView(BaseModel):
    """What `POST /orders/{order_id}/cancel` would do now."""

    possible: bool = Field(description="Whether the order can be cancelled now")
    until: AwareDatetime | None = Field(
        description="The last moment for it, also when it is over; null if there is none"
    )
    effect: Literal["void", "refund"] | None = Field(
        description="`void`: nothing is known to be charged, and nothing will be; a charge that is under way is paid "
        "back. `refund`: the total is paid back. null where the order can't be cancelled"
    )
    why_not: str | None = Field(
        description="Why it can't be cancelled, in words; null where it can be",
        examples=["its payment was declined: nothing was charged"],
    )


class OrderView(ListedOrder):
    """An order and its events so far, causes before effects."""

    items: list[OrderItem]
    timeline: list[TimelineItem]
    notifications: list[Notification]
    wants_sms: bool = Field(description="Whether the customer left a number for text messages")
    wants_push: bool = Field(description="Whether the customer chose push messages")
    duplicates: int = Field(description="How many requests and events arrived again and changed nothing")
    cancellation: CancellationView


@router.get("/orders/{order_id}", responses=documented(404, 503))
async def read_order(resources: WithResources, order_id: OrderIdInPath) -> OrderView:
    """The order's status, timeline and notifications."""
    order = await _existing(resources, order_id)
    return OrderView(
        order_id=order.order_id,
        status=order.status,
        total=order.summary.total,
        items=list(order.summary.items),
        placed_at=order.placed_at,
        timeline=[TimelineItem.model_validate(entry_json(entry)) for entry in in_order(order.timeline)],
        notifications=notifications_of(order.timeline),
        wants_sms=order.summary.customer_phone is not None,
        wants_push=order.summary.customer_push is not None,
        duplicates=order.duplicates,
        cancellation=_cancellation_view(order, resources.rules),
    )


def _cancellation_view(order: Order, rules: CancellationRules) -> CancellationView:
    why_not = rules.why_not(order.status, order.placed_at, datetime.now(UTC))
    has_end = order.status in (OrderStatus.PLACED, OrderStatus.PAID, OrderStatus.CONFIRMED)
    until = rules.until(order.placed_at) if has_end else None
    if why_not:
        return CancellationView(possible=False, until=until, effect=None, why_not=why_not)
    is_unpaid = order.status in (OrderStatus.PLACED, OrderStatus.STALLED)
    return CancellationView(possible=True, until=until, effect="void" if is_unpaid else "refund", why_not=None)


async def _existing(resources: Resources, order_id: str) -> Order:
    known_as = canonical(order_id)
    order = await resources.database.read(store.get, known_as) if known_as else None
    if order is None:
        raise _unknown(order_id)
    return order


def _unknown(order_id: str) -> Problem:
    return Problem(404, f"order_id: there is no order {order_id[:100]}")


class CancelAccepted(BaseModel):
    """The cancellation is safe on disk. `Location` leads to what becomes of it: `cancelled` or `refunded`."""

    order_id: str
    status: Literal[OrderStatus.CANCELLING] = OrderStatus.CANCELLING


@router.post(
    "/orders/{order_id}/cancel",
    status_code=202,
    response_model=CancelAccepted,
    responses=documented(404, 409, 503),
)
async def cancel_order(request: Request, resources: WithResources, order_id: OrderIdInPath) -> Response:
    """Cancel an order: what was charged is paid back, and nothing more is charged.

    Answers as soon as the cancellation and its event are on disk, also while RabbitMQ is away; repeated, it gives the
    same answer and `Idempotent-Replayed: true`. 409 for an order whose payment was declined, and once it is too late
    (CANCEL_WITHIN_SECONDS after its placement), but for a `stalled` order. `cancellation` of `GET /orders/{order_id}`
    tells beforehand.
    """
    known_as = canonical(order_id)
    traceparent = start_span(request.headers.get("traceparent"))
    result = await _cancel(resources, known_as, traceparent) if known_as else Cancelled.UNKNOWN_ORDER
    if known_as is None or result is Cancelled.UNKNOWN_ORDER:
        raise _unknown(order_id)
    if isinstance(result, Refused):
        raise Problem(409, f"The order can't be cancelled: {result.reason}.")
    if result is Cancelled.EARLIER:
        note_replayed("POST /orders/{order_id}/cancel", known_as)
    if result is Cancelled.NOW:
        cancelled_orders.labels("customer").inc()
        resources.changes.notify(known_as)
    return _accepted(known_as, CancelAccepted(order_id=known_as), replayed=result is Cancelled.EARLIER)


async def _cancel(resources: Resources, order_id: str, traceparent: str) -> Cancelled | Refused:
    entry = cancellation("customer")
    request = Cancellation(order_id, entry, traceparent, resources.rules, resources.sweep_delays)
    try:
        return await resources.database.write(cancel, request)
    except CommitUnknown:
        raise Problem.outcome_unknown("Send the same request again: the order is cancelled once.") from None


class OrderPage(BaseModel):
    """`next`: the cursor for `after` that leads to the following page; null on the last."""

    orders: list[ListedOrder]
    next: str | None


@router.get("/orders", dependencies=[Depends(operator)], responses=documented(401, 422, 503))
async def list_orders(
    resources: WithResources,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_ORDERS)] = 20,
    after: Annotated[GivenId | None, Query(description="`next` of the page before")] = None,
) -> OrderPage:
    """Everybody's orders, newest first, for operators."""
    rows = await resources.database.read(store.newest_first, Page(after, limit + 1))
    listed = [
        ListedOrder(order_id=row.order_id, status=row.status, total=row.summary["total"], placed_at=row.placed_at)
        for row in rows[:limit]
    ]
    return OrderPage(orders=listed, next=listed[-1].order_id if len(rows) > limit else None)


@router.get(
    "/orders/{order_id}/events",
    response_class=Response,
    responses={
        200: {"description": "The timeline so far, then live", "content": {"text/event-stream": {}}},
        204: {"description": "The order is in a final state and `Last-Event-ID` was its last event"},
        **documented(404, 422, 503),
    },
)
async def stream_order(
    resources: WithResources,
    order_id: OrderIdInPath,
    last_event_id: Annotated[str | None, Header(description="The id of the last event seen")] = None,
) -> Response:
    """The order's timeline as server-sent events, in the order in which they arrived; ends at a final state."""
    order = await _existing(resources, order_id)
    if not has_more(order, last_event_id):
        return Response(status_code=204)  # an EventSource does not reconnect after a 204
    return StreamingResponse(
        resources.live.stream(order, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def audit_source(database: Database) -> AuditSource:
    """Every order, for `GET /audit`."""
    return AuditSource(database, store.pages, _audit_row)


def _audit_row(row: Any) -> dict[str, Any]:
    return {
        "kind": "order",
        "order_id": row.order_id,
        "status": row.status,
        "total": row.summary["total"],
        "placed_at": row.placed_at,
        "updated_at": row.updated_at,
        "wants_sms": row.wants_sms,
        "wants_push": row.wants_push,
    }

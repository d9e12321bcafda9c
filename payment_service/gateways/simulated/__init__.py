"""A simulated payment gateway, for development and tests, with a durable ledger in a database of its own.

The payment token decides its answer, as test cards do elsewhere. Like a real one, it honours idempotency keys.
"""

import asyncio
import random
import time
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query

from payment_service.gateways.simulated import store
from payment_service.payments import Charged, Declined, Refunded
from shared.events import Money
from shared.http.audit import AuditSource
from shared.http.operators import operator
from shared.http.problems import Problem, documented
from shared.http.prune import Prunable
from shared.ids import GivenId, new_id
from shared.messaging.retry import PermanentError, TransientError, Unavailable
from shared.persistence.database import Database

FLAKY_FAILURES = 2
LATENCY_SPREAD = 0.25
"""As a share of the latency. Without it, charges that start together would also end together, in waves."""


REPAIR = "/simulated-gateway/failing-refunds"
OUTAGE = "/simulated-gateway/outage"


class GatewayUnavailable(TransientError):
    """The gateway failed before it moved any money."""


class GatewayTimeout(TransientError):
    """The gateway's answer was lost: it may have charged."""


class SimulatedGateway:
    """An adapter for the port `Gateway`. It answers after `latency_seconds` on average."""

    def __init__(self, ledger_url: str, latency_seconds: float) -> None:
        self._ledger = Database(ledger_url, store.metadata, name="gateway")
        self._latency_seconds = latency_seconds
        self._down_until = 0.0
        self.start = self._ledger.start
        self.stop = self._ledger.stop
        self.problem = self._ledger.problem

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """As `Gateway.charge`; raises `PermanentError` for a key that was used with another amount."""
        await self._take_time()
        match token:
            case "tok_declined":
                return Declined("card_declined")
            case "tok_broken":
                raise GatewayUnavailable("the gateway answers 503 Service Unavailable")
            case "tok_flaky":
                await self._fail_at_first(idempotency_key)
            case "tok_refund_fails":
                await self._let_refund_fail(idempotency_key)
            case "tok_visa" | "tok_timeout":
                pass
            case _:
                return Declined("unknown_payment_token")
        made, is_new = await self._move(idempotency_key, idempotency_key, "charge", amount)
        if is_new and token == "tok_timeout":  # noqa: S105 - no secret
            raise GatewayTimeout("no answer from the gateway in time")
        return Charged(made.charge_id)

    async def find(self, idempotency_key: str) -> Charged | None:
        """As `Gateway.find`."""
        await self._take_time()
        made = await self._ledger.write(store.move, idempotency_key)
        return None if made is None else Charged(made.charge_id)

    async def refund(self, idempotency_key: str, charge: Charged, amount: Money) -> Refunded:
        """As `Gateway.refund`; fails for the card `tok_refund_fails` until an operator has repaired it."""
        await self._take_time()
        charged = await self._ledger.read(store.charge_of, charge.charge_id)
        if charged is None:
            raise PermanentError("unknown-charge", f"there is no charge {charge.charge_id} to refund")
        if (charged.amount_minor, charged.currency) != (amount.amount_minor, amount.currency):
            raise PermanentError("refund-mismatch", f"charge {charge.charge_id} is of another amount")
        if await self._ledger.read(store.refund_fails, charged.order_id):
            raise GatewayUnavailable(f"the refund fails until it is repaired: DELETE {REPAIR}/{charged.order_id}")
        made, _ = await self._move(idempotency_key, charged.order_id, "refund", amount)
        return Refunded(charge.charge_id, made.charge_id)

    @property
    def audit_source(self) -> AuditSource:
        """As `Gateway.audit_source`."""
        return AuditSource(self._ledger, store.pages, _audit_row)

    @property
    def prunables(self) -> list[Prunable]:
        """As `Gateway.prunables`."""
        return [Prunable(self._ledger, prune) for prune in store.PRUNES]

    @property
    def routers(self) -> list[APIRouter]:
        """As `Gateway.routers`: the calls that repair a failing refund, and take the gateway down."""
        router = APIRouter(tags=["operators"], dependencies=[Depends(operator)])
        router.delete(f"{REPAIR}/{{order_id}}", status_code=204, responses=documented(401, 404, 422, 503))(self.repair)
        router.put(OUTAGE, status_code=204, responses=documented(401, 422))(self.fail)
        return [router]

    async def repair(self, order_id: GivenId) -> None:
        """Let the refund of an order that was paid with `tok_refund_fails` work from now on.

        Then `order-rail dead-letters redrive` finishes it.
        """
        if not await self._ledger.write(store.repair_refund, order_id):
            raise Problem(404, f"order_id: no refund of an order {order_id} is set to fail")

    async def fail(self, seconds: Annotated[float, Query(ge=0, le=3600)]) -> None:
        """Let every call to the gateway fail for so many seconds from now on; 0 ends it. This process alone."""
        self._down_until = time.monotonic() + seconds

    async def _take_time(self) -> None:
        if time.monotonic() < self._down_until:
            raise Unavailable("the gateway answers 503 Service Unavailable to everything")
        await asyncio.sleep(self._latency_seconds * random.uniform(1 - LATENCY_SPREAD, 1 + LATENCY_SPREAD))

    async def _fail_at_first(self, key: str) -> None:
        if await self._ledger.write(store.count_attempt, key) <= FLAKY_FAILURES:
            raise GatewayUnavailable("the gateway closed the connection")

    async def _let_refund_fail(self, key: str) -> None:
        if await self._ledger.write(store.move, key) is None:  # once repaired it stays so, also if it is charged again
            await self._ledger.write(store.let_refunds_fail, key)

    async def _move(self, key: str, order_id: str, type: str, amount: Money) -> tuple[store.Entry, bool]:
        """The ledger's entry for this key, and whether it is new."""
        requested = store.Entry(key, new_id(), order_id, type, amount.amount_minor, amount.currency)
        made = cast(store.Entry, await self._ledger.write(store.move, requested))
        if (made.amount_minor, made.currency) != (amount.amount_minor, amount.currency):
            raise PermanentError("idempotency-mismatch", f"key {key} was used for another amount")
        return made, made == requested


def _audit_row(row: Any) -> dict[str, Any]:
    return {
        "kind": "charge",
        "order_id": row.order_id,
        "charge_id": row.charge_id,
        "type": row.type,
        "amount": {"amount_minor": row.amount_minor, "currency": row.currency},
        "at": row.at,
    }

"""A simulated payment gateway, for development and tests, with a durable ledger in a database of its own.

The payment token decides its answer, as test cards do elsewhere. Like a real one, it honours idempotency keys.
"""

import asyncio
import random
from typing import Any

from payment_service.gateways.simulated import store
from payment_service.payments import Charged, Declined
from shared.events import Money
from shared.http.audit import AuditSource
from shared.ids import new_id
from shared.messaging.retry import PermanentError, TransientError
from shared.persistence.database import Database

FLAKY_FAILURES = 2
LATENCY_SPREAD = 0.25
"""As a share of the latency. Without it, charges that start together would also end together, in waves."""


class GatewayUnavailable(TransientError):
    """The gateway failed before it charged."""


class GatewayTimeout(TransientError):
    """The gateway's answer was lost: it may have charged."""


class SimulatedGateway:
    """An adapter for the port `Gateway`. It answers after `latency_seconds` on average."""

    def __init__(self, ledger_url: str, latency_seconds: float) -> None:
        self._ledger = Database(ledger_url, store.metadata, name="gateway")
        self._latency_seconds = latency_seconds
        self.start = self._ledger.start
        self.stop = self._ledger.stop
        self.problem = self._ledger.problem

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """As `Gateway.charge`; raises `PermanentError` for a key that was used with another amount."""
        await asyncio.sleep(self._latency_seconds * random.uniform(1 - LATENCY_SPREAD, 1 + LATENCY_SPREAD))
        match token:
            case "tok_declined":
                return Declined("card_declined")
            case "tok_broken":
                raise GatewayUnavailable("the gateway answers 503 Service Unavailable")
            case "tok_flaky":
                if await self._ledger.write(store.count_attempt, idempotency_key) <= FLAKY_FAILURES:
                    raise GatewayUnavailable("the gateway closed the connection")
            case "tok_visa" | "tok_timeout":
                pass
            case _:
                return Declined("unknown_payment_token")
        charged, is_new = await self._charge_once(idempotency_key, amount)
        if is_new and token == "tok_timeout":  # noqa: S105 - no secret
            raise GatewayTimeout("no answer from the gateway in time")
        return charged

    @property
    def audit_source(self) -> AuditSource:
        """As `Gateway.audit_source`."""
        return AuditSource(self._ledger, store.pages, _audit_row)

    async def _charge_once(self, key: str, amount: Money) -> tuple[Charged, bool]:
        """The charge of this key, and whether it is new."""
        requested = store.Charge(key, new_id(), amount.amount_minor, amount.currency)
        made = await self._ledger.write(store.charge, requested)
        if (made.amount_minor, made.currency) != (amount.amount_minor, amount.currency):
            raise PermanentError("idempotency-mismatch", f"key {key} was used for another amount")
        return Charged(made.charge_id), made == requested


def _audit_row(row: Any) -> dict[str, Any]:
    return {
        "kind": "charge",
        "order_id": row.order_id,
        "charge_id": row.charge_id,
        "type": row.type,
        "amount": {"amount_minor": row.amount_minor, "currency": row.currency},
    }

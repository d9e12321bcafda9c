"""A gateway with a time limit and a circuit breaker around each of its calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter

from payment_service.gateways import Gateway
from payment_service.payments import Charged, Declined, Refunded
from shared.breaker import Breaker
from shared.events import Money
from shared.http.audit import Source
from shared.http.prune import Prunable
from shared.messaging.retry import NoAnswer

Answer = TypeVar("Answer")


class GuardedGateway:
    """Implements `Gateway`. A call raises `NotReady` while the gateway is down, so that its delivery is held."""

    def __init__(self, gateway: Gateway, answer_seconds: float) -> None:
        self._gateway, self._answer_seconds = gateway, answer_seconds
        self.breaker = Breaker("the payment gateway")
        self.start, self.stop, self.problem = gateway.start, gateway.stop, gateway.problem

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """As `Gateway.charge`."""
        return await self._ask(self._gateway.charge, idempotency_key, token, amount)

    async def find(self, idempotency_key: str) -> Charged | None:
        """As `Gateway.find`."""
        return await self._ask(self._gateway.find, idempotency_key)

    async def refund(self, idempotency_key: str, charge: Charged, amount: Money) -> Refunded:
        """As `Gateway.refund`."""
        return await self._ask(self._gateway.refund, idempotency_key, charge, amount)

    @property
    def routers(self) -> Sequence[APIRouter]:
        """As `Gateway.routers`."""
        return self._gateway.routers

    @property
    def audit_source(self) -> Source:
        """As `Gateway.audit_source`."""
        return self._gateway.audit_source

    @property
    def prunables(self) -> Sequence[Prunable]:
        """As `Gateway.prunables`."""
        return self._gateway.prunables

    async def _ask(self, function: Callable[..., Awaitable[Answer]], *arguments: Any) -> Answer:
        return await self.breaker.call(self._in_time, function, *arguments)

    async def _in_time(self, function: Callable[..., Awaitable[Answer]], *arguments: Any) -> Answer:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await function(*arguments)
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._answer_seconds:g} s") from None

"""The port to the payment gateway, an outside system that moves the money."""

from typing import Protocol

from payment_service.payments import Charged, Declined
from shared.events import Money


class Gateway(Protocol):
    """Charges a payment token. Asked again with the same idempotency key, it answers the same and charges nothing."""

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """Raises `TransientError` when there was no answer: the charge may have gone through or not."""
        ...

"""The rules of loyalty points. No I/O."""

from dataclasses import dataclass

from shared.events import PaymentSucceeded


@dataclass(frozen=True, slots=True)
class Points:
    """What one order has earned. The order id is the idempotency key: an order earns once."""

    order_id: str
    points: int


def earned(event: PaymentSucceeded) -> Points:
    """One point for each whole unit of the currency that was paid."""
    return Points(event.subject, event.data.amount.amount_minor // 100)

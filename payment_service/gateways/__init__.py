"""The port to the payment gateway, an outside system that moves the money, and its adapters by URL scheme."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from fastapi import APIRouter

from payment_service.gateways.simulated import SimulatedGateway
from payment_service.payments import Charged, Declined, Refunded
from shared.events import Money
from shared.http.audit import AuditSource
from shared.service import Component
from shared.settings import checked_database_url


class Gateway(Component, Protocol):
    """Moves money. The same idempotency key gets the same answer, and moves it once.

    Every call raises `TransientError` when there was no answer: the money may have been moved or not.
    """

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """Charge a payment token."""
        ...

    async def find(self, idempotency_key: str) -> Charged | None:
        """The charge of a key whose answer may have been lost, or None: then the order is voided.

        Raises `TransientError` while a request to charge this key may still be under way at the provider.
        """
        ...

    async def refund(self, idempotency_key: str, charge: Charged, amount: Money) -> Refunded:
        """Pay a charge back. The key is the refund's own. Raises `PermanentError` if that is not possible."""
        ...

    @property
    def routers(self) -> Sequence[APIRouter]:
        """HTTP calls of its own that the payment service answers."""
        ...

    @property
    def audit_source(self) -> AuditSource:
        """The gateway's own ledger, oldest row first, for `GET /audit`."""
        ...


class Adapter(NamedTuple):
    """`check` returns an address or raises `ValueError`; `open` takes the address and the latency in seconds."""

    check: Callable[[str], str]
    open: Callable[[str, float], Gateway]


ADAPTERS: Mapping[str, Adapter] = {"simulated": Adapter(checked_database_url, SimulatedGateway)}
"""By the scheme of GATEWAY_URL, `<scheme>+<address>`. The simulated gateway's address is its ledger's database URL."""


def checked_gateway_url(url: str) -> str:
    """The URL with its address as the adapter checked it. Raises `ValueError` if no adapter takes it."""
    scheme, _, address = url.partition("+")
    if scheme not in ADAPTERS:
        raise ValueError("expected simulated+<database URL of its ledger>; there is no other gateway yet")
    return f"{scheme}+{ADAPTERS[scheme].check(address)}"


def open_gateway(url: str, latency_seconds: float) -> Gateway:
    """The adapter for a URL that `checked_gateway_url` accepts; it connects when it is started."""
    scheme, _, address = url.partition("+")
    return ADAPTERS[scheme].open(address, latency_seconds)

"""The port to the payment gateway, an outside system that moves the money, and its adapters by URL scheme."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import NamedTuple, Protocol

from fastapi import APIRouter

from payment_service.gateways.simulated import SimulatedGateway
from payment_service.payments import Charged, Declined, Refunded
from shared.events import Money
from shared.http.audit import Source
from shared.http.prune import Prunable
from shared.service import Component
from shared.settings import checked_database_url

STRIPE = "stripe://"


class Gateway(Component, Protocol):
    """Moves money. The same idempotency key gets the same answer, and moves it once.

    Every call raises `TransientError` when there was no answer: the money may have been moved or not.
    """

    async def charge(self, idempotency_key: str, token: str, amount: Money) -> Charged | Declined:
        """Charge a payment token."""
        ...

    async def find(self, idempotency_key: str) -> Charged | None:
        """The charge of a key whose answer may have been lost, or None: then the order is voided.

        It may use the key up, so that no charge under it can succeed any more. Raises `TransientError` while a request
        to charge this key may still be under way at the provider.
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
    def audit_source(self) -> Source:
        """The gateway's own ledger, oldest row first, for `GET /audit`."""
        ...

    @property
    def prunables(self) -> Sequence[Prunable]:
        """What the gateway keeps in databases of ours."""
        ...


@dataclass(frozen=True)
class Options:
    """What an adapter may need besides its address. `connections`: as many calls may be under way at once."""

    latency_seconds: float
    connections: int
    answer_seconds: float
    stripe_key: str = field(default="", repr=False)
    stripe_base: str = ""


class Adapter(NamedTuple):
    """`check` returns an address or raises `ValueError`; `open` takes the address."""

    check: Callable[[str], str]
    open: Callable[[str, Options], Gateway]


def _open_simulated(ledger_url: str, options: Options) -> Gateway:
    return SimulatedGateway(ledger_url, options.latency_seconds)


def _check_stripe(address: str) -> str:
    if address:
        raise ValueError("expected stripe:// alone: the key is read from STRIPE_API_KEY")
    if find_spec("stripe") is None:
        raise ValueError(
            "stripe:// needs the package `stripe`: pip install 'order-rail[stripe]', or in containers an image that is "
            "built with it: COMPOSE_FILE=docker-compose.yml:deploy/stripe.yml in .env, then docker compose up --build"
        )
    return address


def _open_stripe(_address: str, options: Options) -> Gateway:
    from payment_service.gateways.stripe import StripeGateway  # noqa: PLC0415 - it may not be installed

    return StripeGateway(options.stripe_key, options.stripe_base, options.connections, options.answer_seconds)


ADAPTERS: Mapping[str, Adapter] = {
    "simulated+": Adapter(checked_database_url, _open_simulated),
    STRIPE: Adapter(_check_stripe, _open_stripe),
}
"""By the beginning of GATEWAY_URL; the rest is the address. The simulated gateway's is its ledger's database URL."""


def checked_gateway_url(url: str) -> str:
    """The URL with its address as the adapter checked it. Raises `ValueError` if no adapter takes it."""
    scheme, adapter = _adapter_of(url)
    return scheme + adapter.check(url.removeprefix(scheme))


def open_gateway(url: str, options: Options) -> Gateway:
    """The adapter for a URL that `checked_gateway_url` accepts; it connects when it is started."""
    scheme, adapter = _adapter_of(url)
    return adapter.open(url.removeprefix(scheme), options)


def _adapter_of(url: str) -> tuple[str, Adapter]:
    for scheme, adapter in ADAPTERS.items():
        if url.startswith(scheme):
            return scheme, adapter
    raise ValueError("expected stripe://, or simulated+<database URL of its ledger>")

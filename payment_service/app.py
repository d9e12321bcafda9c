"""The payment service, put together: what is its own; the rest is `shared/assemble.py`."""

from pydantic import Field, ValidationInfo, field_validator

from payment_service import api, store
from payment_service.contract import CONTRACT
from payment_service.gateways import STRIPE, Options, checked_gateway_url, open_gateway
from payment_service.gateways.guarded import GuardedGateway
from payment_service.gateways.stripe_settings import checked_base, checked_key
from payment_service.handlers import subscriptions
from shared.assemble import Assembly
from shared.http.prune import Prunable
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The payment service's environment."""

    contract = CONTRACT
    payment_concurrency: int = Field(default=64, ge=1, le=2000, description="charges under way at once")
    gateway_latency_seconds: float = Field(
        default=0.1, ge=0, le=60, description="what the simulated gateway takes for an answer, on average"
    )
    gateway_url: str = Field(
        default="simulated+sqlite:///.run/gateway.db",
        description="`simulated+` and the URL of its ledger's database, or `stripe://`: [below](#stripe)",
    )
    stripe_api_key_file: str = Field("", description="a file with the key, in place of `STRIPE_API_KEY`")
    stripe_api_key: str = Field(
        "", repr=False, validate_default=True, description="for `stripe://`: a secret or a restricted key"
    )
    stripe_api_base: str = Field("", description="in place of Stripe's own address: that of a stand-in or a proxy")

    @property
    def gateway_options(self) -> Options:
        """What the gateway's adapter may need besides its URL."""
        stripe = (self.stripe_api_key, self.stripe_api_base)
        return Options(self.gateway_latency_seconds, self.payment_concurrency, self.answer_seconds, *stripe)

    @property
    def answer_seconds(self) -> float:
        """The limit for an answer of the gateway: two fit into an attempt, unless it is configured to be slower."""
        return max(0.4 * CONTRACT.queue("charge").attempt_seconds, 2 * self.gateway_latency_seconds)

    @field_validator("stripe_api_key")
    @classmethod
    def _is_there(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("gateway_url") != STRIPE:
            return value
        return checked_key(value, info.data["stripe_api_key_file"])

    @field_validator("stripe_api_base")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        return checked_base(value) if value else value

    @field_validator("gateway_url")
    @classmethod
    def _has_an_adapter(cls, value: str) -> str:
        return checked_gateway_url(value)


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    description = (
        "Charges each order once, refunds cancelled ones. Events cause the payments; this API only reads them."
    )
    assembly = Assembly(CONTRACT, settings, store.metadata, store.outbox, description=description)
    database = assembly.database
    gateway = GuardedGateway(open_gateway(settings.gateway_url, settings.gateway_options), settings.answer_seconds)
    assembly.consume(subscriptions(database, gateway, settings.payment_concurrency))
    assembly.serve(
        database,
        api.router,
        *gateway.routers,
        audit=[api.audit_source(database), gateway.audit_source],
        prune=[Prunable(database, store.prune), *gateway.prunables],
    )
    return assembly.service(before=[gateway], breakers=[gateway.breaker])

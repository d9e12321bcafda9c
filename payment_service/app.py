"""The payment service, put together: what is its own; the rest is `shared/assemble.py`."""

from pydantic import Field, field_validator

from payment_service import api, store
from payment_service.contract import CONTRACT
from payment_service.gateways import checked_gateway_url, open_gateway
from payment_service.gateways.guarded import GuardedGateway
from payment_service.handlers import subscriptions
from shared.assemble import Assembly
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
        default="simulated+sqlite:///.run/gateway.db", description="`simulated+` and the URL of its ledger's database"
    )

    @property
    def answer_seconds(self) -> float:
        """The limit for the gateway's answer: well within an attempt, unless the gateway is configured to be slower."""
        return max(0.75 * CONTRACT.queue("charge").attempt_seconds, 2 * self.gateway_latency_seconds)

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
    gateway = GuardedGateway(
        open_gateway(settings.gateway_url, settings.gateway_latency_seconds), settings.answer_seconds
    )
    assembly.consume(subscriptions(database, gateway, settings.payment_concurrency))
    assembly.serve(database, api.router, *gateway.routers, audit=[api.audit_source(database), gateway.audit_source])
    return assembly.service(before=[gateway], breakers=[gateway.breaker])

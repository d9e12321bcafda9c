"""The payment service, put together: the only file that knows every part."""

from pydantic import Field, field_validator

from payment_service import api, store
from payment_service.gateways import checked_gateway_url, open_gateway
from payment_service.handlers import CHARGE, subscriptions
from shared.controls import controls
from shared.http.application import create_app
from shared.http.server import HttpServer
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import Publisher
from shared.persistence.database import Database
from shared.persistence.relay import OutboxRelay
from shared.service import Service
from shared.settings import ServiceSettings
from shared.topology import attempt_seconds


class Settings(ServiceSettings):
    """The payment service's environment."""

    database_url: str = "sqlite:///.run/payment_service.db"
    http_port: int = Field(default=8001, ge=0, le=65535)
    payment_concurrency: int = Field(default=64, ge=1, le=2000)
    gateway_latency_seconds: float = Field(default=0.1, ge=0, le=60)
    gateway_url: str = "simulated+sqlite:///.run/gateway.db"

    @property
    def answer_seconds(self) -> float:
        """For how long an answer of the gateway is awaited: well within an attempt, unless it is told to be slower."""
        return max(0.75 * attempt_seconds(CHARGE), 2 * self.gateway_latency_seconds)

    @field_validator("gateway_url")
    @classmethod
    def _has_an_adapter(cls, value: str) -> str:
        return checked_gateway_url(value)


def build(settings: Settings) -> Service:
    """Every part, in the order in which it starts."""
    database = Database(settings.database_url, store.metadata, name="payments")
    gateway = open_gateway(settings.gateway_url, settings.gateway_latency_seconds)
    publisher = Publisher(settings.rabbitmq_url, "payment_service", exchanges=["payments"])
    relay = OutboxRelay(database, store.outbox, publisher)
    consumer = Consumer(
        settings.rabbitmq_url,
        "payment_service",
        subscriptions(database, gateway, settings.answer_seconds, settings.payment_concurrency),
        publisher,
        settings.retry_delays_of,
    )
    app = create_app(title="Payment service", description=api.DESCRIPTION, operator_token=settings.operator_token)
    app.state.parts = api.Parts(database, gateway)
    app.include_router(api.router)
    return Service(
        [database, gateway, publisher, relay, consumer, *controls(settings, "payment_service", consumer)],
        HttpServer(app, settings.http_host, settings.http_port),
    )

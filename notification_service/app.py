"""The notification service, put together: the only file that knows every part."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from notification_service import api, store
from notification_service.channels import ADAPTERS, Channel
from notification_service.handlers import subscriptions
from notification_service.smtp_url import SmtpUrl
from shared.controls import controls
from shared.http.application import create_app
from shared.http.server import HttpServer
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import Publisher
from shared.persistence.database import Database
from shared.persistence.relay import OutboxRelay
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The notification service's environment. A channel without a URL logs what it would send."""

    database_url: str = "sqlite:///.run/notification_service.db"
    http_port: int = Field(default=8002, ge=0, le=65535)
    email_url: str = ""
    sms_url: str = ""
    restaurant_url: str = ""

    @field_validator("email_url")
    @classmethod
    def _is_smtp(cls, value: str) -> str:
        if value:
            SmtpUrl.of(value)
        return value

    @field_validator("sms_url", "restaurant_url")
    @classmethod
    def _is_empty(cls, value: str) -> str:
        if value:
            raise ValueError("there is no adapter for this channel yet; leave it empty, and it logs what it would send")
        return value


def build(settings: Settings) -> Service:
    """Every part, in the order in which it starts."""
    database = Database(settings.database_url, store.metadata, name="notifications")
    publisher = Publisher(settings.rabbitmq_url, "notification_service", exchanges=["notifications"])
    relay = OutboxRelay(database, store.outbox, publisher)
    consumer = Consumer(
        settings.rabbitmq_url,
        "notification_service",
        subscriptions(database, _channels(settings)),
        publisher,
        settings.retry_delays_of,
    )
    app = create_app(title="Notification service", description=api.DESCRIPTION, operator_token=settings.operator_token)
    app.state.parts = api.Parts(database)
    app.include_router(api.router)
    return Service(
        [database, publisher, relay, consumer, *controls(settings, "notification_service", consumer)],
        HttpServer(app, settings.http_host, settings.http_port),
    )


def _channels(settings: Settings) -> dict[str, Channel]:
    urls = {"email": settings.email_url, "sms": settings.sms_url, "restaurant": settings.restaurant_url}
    return {name: ADAPTERS[urlsplit(url).scheme](url) for name, url in urls.items()}

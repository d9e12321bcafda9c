"""The notification service, put together: what is its own; the rest is `shared/assemble.py`."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from notification_service import api, store
from notification_service.channels import ADAPTERS, NotificationChannel
from notification_service.contract import CONTRACT
from notification_service.handlers import subscriptions
from notification_service.smtp_url import SmtpUrl
from shared.assemble import Assembly
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The notification service's environment. A channel without a URL logs what it would send."""

    database_url: str = "sqlite:///.run/notification_service.db"
    http_port: int = Field(default=CONTRACT.port, ge=0, le=65535)
    email_url: str = Field("", description="`smtp://host:port` or `smtps://user:password@host`: [below](#email_url)")
    sms_url: str = Field("", description="no adapter yet: leave it empty")
    restaurant_url: str = Field("", description="no adapter yet: leave it empty")

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
    """Every part of the service, not started yet."""
    assembly = Assembly(CONTRACT, settings, store.metadata, store.outbox, description=api.DESCRIPTION)
    database = assembly.database
    assembly.consume(subscriptions(database, _channels(settings)))
    assembly.serve(database, api.router, audit=[api.audit_source(database)])
    return assembly.service()


def _channels(settings: Settings) -> dict[str, NotificationChannel]:
    urls = {"email": settings.email_url, "sms": settings.sms_url, "restaurant": settings.restaurant_url}
    return {name: ADAPTERS[urlsplit(url).scheme](url) for name, url in urls.items()}

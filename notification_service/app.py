"""The notification service, put together: what is its own; the rest is `shared/assemble.py`."""

from pydantic import Field, ValidationInfo, field_validator

from notification_service import api, store
from notification_service.channels import open_channel
from notification_service.contract import CONTRACT
from notification_service.handlers import subscriptions
from shared.assemble import Assembly
from shared.service import Service
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """The notification service's environment. A channel without a URL logs what it would send."""

    contract = CONTRACT
    email_url: str = Field("", description="`smtp://host:port` or `smtps://user:password@host`: [below](#email_url)")
    sms_url: str = Field("", description="no adapter yet: leave it empty")
    push_url: str = Field("", description="no adapter yet: leave it empty")
    restaurant_url: str = Field("", description="no adapter yet: leave it empty")

    @field_validator("email_url", "sms_url", "push_url", "restaurant_url")
    @classmethod
    def _has_an_adapter(cls, value: str, field: ValidationInfo) -> str:
        open_channel(str(field.field_name).removesuffix("_url"), value)
        return value


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    description = "Notifies customers and the restaurant. Events cause the notifications; this API only reads them."
    assembly = Assembly(CONTRACT, settings, store.metadata, store.outbox, description=description)
    database = assembly.database
    channels = {each.name: open_channel(each.name, getattr(settings, f"{each.name}_url")) for each in CONTRACT.queues}
    assembly.consume(subscriptions(database, channels))
    assembly.serve(database, api.router, audit=[api.audit_source(database)])
    return assembly.service()

"""The notification service, put together: what is its own; the rest is `shared/assemble.py`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from notification_service import api, store
from notification_service.channels import NotificationChannel, open_channel
from notification_service.contract import CONTRACT
from notification_service.handlers import subscriptions
from notification_service.notifications import KINDS
from shared.assemble import Assembly
from shared.breaker import Breaker
from shared.events import ChannelName
from shared.http.prune import Prunable
from shared.service import Service
from shared.settings import ServiceSettings

APPRISE = "[a URL for Apprise](#sms_url-and-push_url) with `{to}` for the recipient, or `https://` for a webhook"

SECRET_LENGTH = 16


class Settings(ServiceSettings):
    """The notification service's environment. A channel without a URL logs what it would send."""

    contract = CONTRACT
    webhook_secret: str = Field(
        "", repr=False, description="the key that signs [webhooks](webhooks.md), needed for an `https://` URL below"
    )
    webhook_secret_file: str = Field("", description="a file that holds it instead")
    templates_folder: str = Field(
        "", description="the texts of all notices, in place of `notification_service/templates`: copy that folder"
    )
    email_url: str = Field(
        "", repr=False, description="`smtp://host:port` or `smtps://user:password@host`: [below](#email_url)"
    )
    sms_url: str = Field("", repr=False, description=APPRISE)
    push_url: str = Field("", repr=False, description=APPRISE)
    restaurant_url: str = Field("", repr=False, description="`https://host/path`: a [webhook](webhooks.md)")

    @field_validator("webhook_secret")
    @classmethod
    def _is_long(cls, secret: str) -> str:
        return _checked_secret(secret) if secret else ""

    @field_validator("webhook_secret_file")
    @classmethod
    def _can_be_read(cls, file: str, given: ValidationInfo) -> str:
        if file and given.data.get("webhook_secret"):
            raise ValueError("expected it or WEBHOOK_SECRET, not both")
        _secret_in(file)
        return file

    @field_validator("templates_folder")
    @classmethod
    def _holds_templates(cls, folder: str) -> str:
        from notification_service.templates import templates_in  # noqa: PLC0415 - as in channels.py

        templates_in(folder)
        return folder

    @field_validator("email_url", "sms_url", "push_url", "restaurant_url")
    @classmethod
    def _has_an_adapter(cls, url: str, given: ValidationInfo) -> str:
        name, values = str(given.field_name).removesuffix("_url"), given.data
        # Where a variable is malformed, its own line says so, and the others are checked as far as they can be.
        secret = values.get("webhook_secret") or _secret_in(values.get("webhook_secret_file", ""))
        is_unknown = not {"webhook_secret", "webhook_secret_file"} <= values.keys()
        secret = secret or ("malformed" if is_unknown else "")
        open_channel(name, url, templates_folder=values.get("templates_folder", ""), secret=secret)
        return url

    @property
    def webhook_key(self) -> str:
        """The secret, from wherever it is."""
        return self.webhook_secret or _secret_in(self.webhook_secret_file)

    def channel(self, name: ChannelName) -> NotificationChannel:
        """The adapter for a channel's URL."""
        url = getattr(self, f"{name}_url")
        return open_channel(name, url, templates_folder=self.templates_folder, secret=self.webhook_key)


def _checked_secret(secret: str) -> str:
    if len(secret) < SECRET_LENGTH:
        raise ValueError(f"expected at least {SECRET_LENGTH} characters, such as those of `openssl rand -hex 32`")
    return secret


def _secret_in(file: str) -> str:
    """The secret that a file holds; empty without a file. Raises `ValueError` if it can't be read."""
    if not file:
        return ""
    try:
        return _checked_secret(Path(file).read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ValueError(f"{file} can't be read: {error.strerror}") from None


class Channels:
    """The channels as a component of the service: their connections are closed once the consumer has stopped."""

    def __init__(self, channels: Sequence[NotificationChannel]) -> None:
        self._channels = channels

    async def start(self) -> None:
        """Nothing: each connects when it sends."""

    async def stop(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def problem(self) -> str | None:
        """None: a provider that is away makes notices wait, and the service is as ready as before."""
        return None


def build(settings: Settings) -> Service:
    """Every part of the service, not started yet."""
    description = "Notifies customers and the restaurant. Events cause the notifications; this API only reads them."
    assembly = Assembly(CONTRACT, settings, store.metadata, store.outbox, description=description)
    database = assembly.database
    channels = {name: settings.channel(name) for name in KINDS}
    breakers = {name: Breaker(f"the channel {name}") for name in channels}
    assembly.consume(subscriptions(database, channels, breakers))
    assembly.serve(database, api.router, audit=[api.audit_source(database)], prune=[Prunable(database, store.prune)])
    return assembly.service(before=[Channels(list(channels.values()))], breakers=list(breakers.values()))

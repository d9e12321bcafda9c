"""The port to the outside world, `NotificationChannel`, and its adapters, chosen by the scheme of a channel's URL."""

from typing import Protocol

import structlog

from notification_service.notifications import Notice

logger = structlog.get_logger(__name__)


class NotificationChannel(Protocol):
    """Delivers notices."""

    @property
    def concurrency(self) -> int:
        """How many notices may be sent at once."""
        ...

    async def send(self, notice: Notice) -> None:
        """Returns once the receiving server has the notice.

        Raises `TransientError` if another attempt may work, `OutcomeUnknown` if the server may have the notice,
        `PermanentError` if no attempt can work, `NotReady` while the server can't be reached or takes nothing from us.
        """
        ...

    async def close(self) -> None:
        """Let go of connections that are kept for further notices."""
        ...


class LogChannel:
    """For a channel without a URL: logs what it would send, and delivers nothing."""

    concurrency = 100

    async def send(self, notice: Notice) -> None:
        logger.info("notification.not_sent", channel=notice.channel, notice=notice.kind, order_id=notice.order_id)

    async def close(self) -> None:
        """Nothing is kept."""


def open_channel(name: str, url: str, *, templates_folder: str = "", secret: str = "") -> NotificationChannel:
    """The channel's adapter; it connects when it sends. `secret` signs webhooks.

    Raises `ValueError` for a URL that no adapter can use, and for templates that can't be used.
    """
    # ruff: noqa: PLC0415 - each adapter has libraries of its own, and a service starts sooner without the others'
    if not url:
        return LogChannel()
    from notification_service.templates import templates_in

    templates = templates_in(templates_folder)
    if url.lower().startswith(("http:", "https:")):
        from notification_service.webhook import WebhookChannel

        return WebhookChannel(url, templates, secret)
    # Not by Apprise: it gives each attempt another Message-ID, and does not tell one refusal from another.
    if name == "email":
        from notification_service.smtp import SmtpChannel

        return SmtpChannel(url, templates)
    from notification_service.apprise_channel import AppriseChannel

    return AppriseChannel(name, url, templates)

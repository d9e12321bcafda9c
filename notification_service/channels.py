"""The port to the outside world, `NotificationChannel`, and its adapters: a log for every channel, SMTP for email."""

from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from notification_service.notifications import Notice
from notification_service.smtp import SmtpChannel

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
        `PermanentError` if no attempt can work, `NotReady` while the server can't be reached.
        """
        ...


class LogChannel:
    """For a channel without a URL: logs what it would send, and delivers nothing."""

    concurrency = 100

    async def send(self, notice: Notice) -> None:
        logger.info("notification.not_sent", channel=notice.channel, notice=notice.kind, order_id=notice.order_id)


ADAPTERS: Mapping[str, Callable[[str], NotificationChannel]] = {"email": SmtpChannel}
"""By the channel's name. An adapter raises `ValueError` for a URL that it can't use."""


def open_channel(name: str, url: str) -> NotificationChannel:
    """The channel's adapter; it connects when it sends. Raises `ValueError` for a URL that no adapter can use."""
    if not url:
        return LogChannel()
    if name not in ADAPTERS:
        raise ValueError("there is no adapter for this channel yet; leave it empty, and it logs what it would send")
    return ADAPTERS[name](url)

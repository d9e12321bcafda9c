"""The port to the outside world, a `Channel`, and its adapters: a log, and SMTP (`smtp.py`)."""

from collections.abc import Callable
from typing import Protocol

import structlog

from notification_service.notifications import Letter
from notification_service.smtp import SmtpChannel

logger = structlog.get_logger(__name__)


class Channel(Protocol):
    """Delivers letters of one kind."""

    @property
    def concurrency(self) -> int:
        """How many letters may be under way at once."""
        ...

    async def send(self, letter: Letter) -> None:
        """Returns once the other side has it.

        Raises `TransientError` to be asked again, `OutcomeUnknown` if the other side may have it all the same,
        `PermanentError` if it never will, and `NotReady` while it can't be reached.
        """
        ...


class LogChannel:
    """Delivers to nobody: logs what it would send. For a channel without a URL."""

    concurrency = 100

    async def send(self, letter: Letter) -> None:
        logger.info("would send", channel=letter.channel, notice=letter.notice, order_id=letter.order_id)


ADAPTERS: dict[str, Callable[[str], Channel]] = {
    "": lambda _url: LogChannel(),
    "smtp": SmtpChannel,
    "smtps": SmtpChannel,
}

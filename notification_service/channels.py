"""The port to the outside world, a `Channel`, and its adapters: a log, and SMTP."""

import asyncio
import hashlib
from collections.abc import Callable
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from notification_service.notifications import Letter
from shared.messaging.retry import PermanentError, TransientError

SMTP_TIMEOUT_SECONDS = 10.0
SMTP_CONNECTIONS = 10
SENDER = "Order Rail <orders@order-rail.example>"

logger = structlog.get_logger(__name__)


class Channel(Protocol):
    """Delivers letters of one kind."""

    async def send(self, letter: Letter) -> None:
        """Returns once the other side has it. Raises `TransientError` to be asked again, `PermanentError` if never."""
        ...


class LogChannel:
    """Delivers to nobody: logs what it would send. For a channel without a URL."""

    async def send(self, letter: Letter) -> None:
        logger.info("would send", channel=letter.channel, notice=letter.notice, order_id=letter.order_id)


class SmtpChannel:
    """Mail over `smtp://[user:password@]host[:port]` (or `smtps://`), a connection a letter."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "smtps"
        self._host = parts.hostname or ""
        self._port = parts.port or (465 if self._tls else 25)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._connections = asyncio.Semaphore(SMTP_CONNECTIONS)

    async def send(self, letter: Letter) -> None:
        async with self._connections:
            try:
                await aiosmtplib.send(
                    _mail(letter), hostname=self._host, port=self._port, username=self._user, password=self._password,
                    use_tls=self._tls, timeout=SMTP_TIMEOUT_SECONDS,
                )  # fmt: skip
            except aiosmtplib.SMTPRecipientsRefused as error:
                raise _refused(error.recipients[0]) from error
            except aiosmtplib.SMTPResponseException as error:
                raise _refused(error) from error
            except (aiosmtplib.SMTPException, OSError) as error:
                raise TransientError(f"mail server {self._host}:{self._port}: {error}") from error


def _refused(error: aiosmtplib.SMTPResponseException) -> TransientError | PermanentError:
    answer = f"the mail server answers {error.code} {error.message}"
    return PermanentError("mail-refused", answer) if 500 <= error.code < 600 else TransientError(answer)


def _mail(letter: Letter) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = SENDER
    mail["To"] = letter.recipient
    mail["Subject"] = letter.subject
    # A mail cannot be taken back or sent idempotently: whoever gets it twice can tell by this that it is the same.
    mail["Message-ID"] = f"<{hashlib.sha256(letter.idempotency_key.encode()).hexdigest()[:32]}@order-rail.example>"
    mail["X-Order-Id"] = letter.order_id
    mail.set_content(letter.text)
    return mail


ADAPTERS: dict[str, Callable[[str], Channel]] = {
    "": lambda _url: LogChannel(),
    "smtp": SmtpChannel,
    "smtps": SmtpChannel,
}

"""Mail over SMTP (RFC 5321): one connection per mail, a time limit per phase, and the meaning of each phase's failure.

- No greeting: the server is away. The mail waits for the server, and no attempt is spent.
- A refused session (greeting, EHLO, STARTTLS, AUTH, MAIL): says nothing about the mail, which is tried again later.
- A 5xx to the recipient (RCPT) or to the content (DATA, the final dot): the mail is refused for good.
- No answer to the final dot: the server may have accepted the mail or not.
"""

import asyncio
import re
import socket
import ssl
from functools import cache
from typing import cast

import aiosmtplib
import structlog
from aiosmtplib import SMTPException, SMTPResponse

from notification_service.mail import SENDER, mail_of, recipient_of
from notification_service.notifications import Notice
from notification_service.smtp_url import FULL_NAME, TRY_SECONDS, SmtpUrl
from shared.messaging.retry import NotReady, OutcomeUnknown, PermanentError, TransientError

CONNECTIONS = 10
"""At once. The consumer takes as many deliveries from the queue, so that none waits here for a connection."""

QUIT_SECONDS = 5.0
FLUSH_POLL_SECONDS = 0.05
ANSWER_LENGTH = 300

CONNECTING, GREETING, TEXT, FINAL_DOT = "connecting", "the greeting", "the mail's text", "the final dot"

OF_THE_SESSION = frozenset({500, 502, 503, 504})
"""Answers to RCPT and DATA that mean that the server and this client disagree on the protocol; not about the mail."""

FAILURES = (SMTPException, OSError, ValueError)
"""aiosmtplib raises ValueError where it can't read what the server sent, such as a challenge in AUTH."""

TRUST = "to trust its certificate add ?cafile=/path/to/certificate.pem to EMAIL_URL, to trust any add ?verify=no"

logger = structlog.get_logger(__name__)


class SmtpChannel:
    """Sends each notice over a connection of its own. Logs once that the server is unavailable, and once its return."""

    concurrency = CONNECTIONS

    def __init__(self, url: str) -> None:
        self._server = SmtpUrl.of(url)
        self._is_available = True
        self._quitting: set[asyncio.Task[None]] = set()

    async def send(self, notice: Notice) -> None:
        """As `NotificationChannel.send`; raises `NotReady` while the server is away."""
        recipient, content = recipient_of(notice), mail_of(notice)
        try:
            await self._send(recipient, content)
        except NotReady as error:
            self._log_unavailable(str(error))
            raise
        except (TransientError, PermanentError):
            self._log_available()
            raise
        self._log_available()

    async def _send(self, recipient: str, content: bytes) -> None:
        session = _Session(self._server)
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await session.open()
                await session.deliver(recipient, content)
        except TimeoutError as error:
            raise session.failure(f"all of it took longer than {TRY_SECONDS:g} s") from error
        finally:
            self._end(session)

    def _end(self, session: "_Session") -> None:
        """QUIT in the background: its answer changes nothing, and the mail's outcome can be recorded meanwhile."""
        if not session.can_quit:
            session.close()
            return
        task = asyncio.get_running_loop().create_task(session.quit())
        self._quitting.add(task)
        task.add_done_callback(self._quitting.discard)

    def _log_unavailable(self, reason: str) -> None:
        if self._is_available:
            logger.warning("mail_server.unavailable", server=str(self._server), reason=reason)
        self._is_available = False

    def _log_available(self) -> None:
        if not self._is_available:
            logger.info("mail_server.available", server=str(self._server))
        self._is_available = True


class _Session:
    """One connection and one mail. `_phase` is the step under way, named in error messages."""

    def __init__(self, server: SmtpUrl) -> None:
        self._server, self._limits = server, server.limits
        self._client = aiosmtplib.SMTP(
            hostname=server.host, use_tls=server.uses_tls, start_tls=False, tls_context=server.tls,
            timeout=server.limits.greeting_seconds,
        )  # fmt: skip
        self._phase = CONNECTING
        self._has_answered = False

    @property
    def can_quit(self) -> bool:
        """Whether the server has given its last answer about the mail, and waits for a command."""
        return self._has_answered and self._client.is_connected

    async def open(self) -> None:
        """Connect, and wait for the greeting. Raises `NotReady`, or `TransientError` where the greeting refuses."""
        name = self._server.own_name or await asyncio.to_thread(_full_name)
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                connection = await _connected(self._server, self._limits.connect_seconds)
            self._phase = GREETING
            await self._client.connect(sock=connection, local_hostname=_ehlo_name(name, connection))
        except aiosmtplib.SMTPConnectResponseError as error:
            raise self._refusal(SMTPResponse(error.code, error.message)) from error
        except FAILURES as error:
            raise self.failure(_text(error)) from error
        self._client.timeout = self._limits.command_seconds
        self._phase = "EHLO"

    async def deliver(self, recipient: str, content: bytes) -> None:
        """Returns once the server has the mail. Raises `TransientError`, `OutcomeUnknown` or `PermanentError`."""
        try:
            await self._introduce()
            await self._command("MAIL", f"FROM:<{SENDER.addr_spec}>")
            await self._command("RCPT", f"TO:<{recipient}>")
            await self._send(content)
        except aiosmtplib.SMTPResponseException as error:
            raise self._refusal(SMTPResponse(error.code, error.message)) from error
        except ssl.SSLCertVerificationError as error:  # with `smtps` this is found before the greeting
            raise self._not_ready(_text(error)) from error
        except FAILURES as error:
            raise self.failure(_text(error)) from error

    async def _introduce(self) -> None:
        client, server = self._client, self._server
        await self._hello()
        if server.start_tls != "never" and not server.uses_tls:
            self._phase = "STARTTLS"
            if client.supports_extension("starttls"):
                await client.starttls(tls_context=server.tls)
                await self._hello()
            elif server.start_tls == "required":
                raise TransientError(f"the mail server {server} offers no STARTTLS, which EMAIL_URL requires")
        if server.user is not None:
            self._phase = "AUTH"
            await client.login(server.user, server.password)

    async def _hello(self) -> None:
        self._phase = "EHLO"
        try:
            await self._client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if not 500 <= error.code < 600 or not self._client.is_connected:
                raise
            self._phase = "HELO"
            await self._client.helo()

    async def _command(self, verb: str, argument: str) -> None:
        self._phase = verb
        self._expect(200, await self._client.execute_command(verb.encode(), argument.encode("ascii")))

    async def _send(self, content: bytes) -> None:
        self._phase = "DATA"
        self._expect(300, await self._client.execute_command(b"DATA", timeout=self._limits.data_seconds))
        self._phase = TEXT
        protocol, transport = self._client.protocol, cast("asyncio.WriteTransport | None", self._client.transport)
        if protocol is None or transport is None:
            raise ConnectionResetError("the connection was lost")
        async with asyncio.timeout(self._limits.content_seconds):
            protocol.write(re.sub(rb"(?m)^\.", b"..", content))  # a line with one dot would end the mail
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - aiosmtplib has no signal for an empty buffer
                await asyncio.sleep(FLUSH_POLL_SECONDS)
        protocol.write(b".\r\n")
        self._phase = FINAL_DOT
        self._expect(200, await protocol.read_response(timeout=self._limits.final_seconds))
        self._has_answered = True

    def _expect(self, code: int, answer: SMTPResponse) -> None:
        if not code <= answer.code < code + 100:
            raise self._refusal(answer)

    def failure(self, reason: str) -> NotReady | TransientError:
        """The error for a phase that got no answer."""
        if self._phase in (CONNECTING, GREETING):
            return self._not_ready(reason)
        return self._transient(f"the mail server {self._server}, {self._phase}: {reason}")

    def _not_ready(self, reason: str) -> NotReady:
        return NotReady(f"the mail server {self._server}, {self._phase}: {reason}")

    def _transient(self, message: str) -> TransientError:
        """Once the final dot is sent, the server may have accepted the mail."""
        return OutcomeUnknown(message) if self._phase == FINAL_DOT else TransientError(message)

    def _refusal(self, answer: SMTPResponse) -> TransientError | PermanentError:
        """The error for an answer other than the expected one."""
        self._has_answered = True
        message = f"the mail server answers {answer.code} {_printable(answer.message)} ({self._phase})"
        if not 400 <= answer.code < 600:  # not an answer that SMTP knows here
            return self._transient(message)
        is_of_the_mail = self._phase in ("RCPT", "DATA", FINAL_DOT) and answer.code not in OF_THE_SESSION
        if answer.code >= 500 and is_of_the_mail:
            return PermanentError("mail-refused", message)
        return TransientError(message)

    async def quit(self) -> None:
        """Never fails: the mail's outcome is known already."""
        try:
            await self._client.quit(timeout=QUIT_SECONDS)
        except FAILURES as error:
            logger.debug("mail_server.quit_failed", error=_text(error))
        finally:
            self.close()

    def close(self) -> None:
        """Close at once, also in the middle of a phase."""
        transport = cast("asyncio.WriteTransport | None", self._client.transport)
        self._client.close()
        if transport is not None:
            transport.abort()  # a close would wait until the server has taken what was written


async def _connected(server: SmtpUrl, limit_seconds: float) -> socket.socket:
    """A connection to the first of the host's addresses that accepts one. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    failure = OSError("its name has no address")
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(limit_seconds / len(addresses)):  # a silent address leaves time for the others
                await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _ehlo_name(name: str, connection: socket.socket) -> str:
    """This host's full name, or, where it has none, its address in the form of RFC 5321."""
    if FULL_NAME.fullmatch(name) and not name.startswith("localhost."):
        return name
    address = str(connection.getsockname()[0])
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


@cache  # a look-up by name may take seconds
def _full_name() -> str:
    return socket.getfqdn()


def _text(error: BaseException) -> str:
    while isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None:
        error = error.__cause__  # its own text only repeats the server's address
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; {TRUST}"
    return _printable(str(error) or type(error).__name__)


def _printable(answer: str) -> str:
    """One line without control characters, which a terminal or a database may not take."""
    return "".join(sign if sign.isprintable() else " " for sign in answer)[:ANSWER_LENGTH]

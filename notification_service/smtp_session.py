"""One connection to a mail server: a time limit for each phase of SMTP, and the meaning of each phase's failure.

- No session (connecting, greeting, EHLO, STARTTLS, AUTH, MAIL): nothing was said of the mail yet, whatever the answer.
  The mail waits for the server, and no attempt is spent. A 5xx to AUTH or MAIL waits for a person to mend EMAIL_URL.
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

from notification_service.mail import SENDER
from notification_service.smtp_url import FULL_NAME, SmtpUrl
from shared.messaging.retry import AccessDenied, NotReady, OutcomeUnknown, PermanentError, TransientError

QUIT_SECONDS = 5.0

QUIET_SECONDS = 1.0
"""A connection that was idle for longer is tried with RSET first."""

RSET_SECONDS = 10.0
"""Every server answers RSET at once, since it has nothing to look up for it; a connection that died answers nothing."""

FLUSH_POLL_SECONDS = 0.05
ANSWER_LENGTH = 300

CONNECTING, GREETING, TEXT, FINAL_DOT = "connecting", "the greeting", "the mail's text", "the final dot"

OF_THE_SESSION = frozenset({CONNECTING, GREETING, "EHLO", "HELO", "STARTTLS", "AUTH", "RSET", "MAIL"})
"""Phases in which the server has not heard of the mail: it can only refuse this client, and would refuse every mail."""

OUT_OF_STEP = frozenset({500, 502, 503, 504})
"""Answers that mean that the server and this client disagree on the protocol."""

FAILURES = (SMTPException, OSError, ValueError)
"""aiosmtplib raises ValueError where it can't read what the server sent, such as a challenge in AUTH."""

WHAT_TO_DO = (
    "Put a user and password that the server accepts into EMAIL_URL (smtp://user:password@host), or let the server "
    "accept mails from this sender; until then mails wait"
)

TRUST = "to trust its certificate add ?cafile=/path/to/certificate.pem to EMAIL_URL, to trust any add ?verify=no"

logger = structlog.get_logger(__name__)


class Session:
    """A connection for one mail after the other. `_phase` is the step under way, named in error messages."""

    def __init__(self, server: SmtpUrl) -> None:
        self._server, self._limits = server, server.options
        self._client = aiosmtplib.SMTP(
            hostname=server.host, use_tls=server.uses_tls, start_tls=False, tls_context=server.tls,
            timeout=server.options.greeting_seconds,
        )  # fmt: skip
        self._phase = CONNECTING
        self._has_answered = False
        self._used_at = 0.0
        self.mails = 0
        """How many mails it has delivered."""

    @property
    def _transport(self) -> asyncio.WriteTransport | None:
        return cast("asyncio.WriteTransport | None", self._client.transport)

    @property
    def is_open(self) -> bool:
        return self._client.is_connected

    @property
    def is_stale(self) -> bool:
        """Whether a mail failed for being sent over a connection that had been used before.

        The server takes no further mail on it, or the connection is gone (421 means that too), and nothing of the
        mail's content was sent: then all that was sent is safe to repeat on another connection.
        """
        is_refused = self._phase in ("RSET", "MAIL")
        return self.mails > 0 and (is_refused or (self._phase in ("RCPT", "DATA") and not self.is_open))

    async def deliver(self, recipient: str, content: bytes, deadline: float) -> None:
        """Returns once the server has the mail. Raises as `NotificationChannel.send` does."""
        self._has_answered = False
        try:
            async with asyncio.timeout_at(deadline):
                await (self._try() if self.mails else self._open())
                await self._command("MAIL", f"FROM:<{SENDER.addr_spec}>")
                await self._command("RCPT", f"TO:<{recipient}>")
                await self._send(content)
        except aiosmtplib.SMTPResponseException as error:
            raise self._refusal(SMTPResponse(error.code, error.message)) from error
        except FAILURES as error:
            raise self._failure(error) from error
        self.mails += 1
        self._used_at = asyncio.get_running_loop().time()

    async def _open(self) -> None:
        await self._connect()
        await self._introduce()

    async def _try(self) -> None:
        """Find out whether a connection that was idle is still one."""
        if asyncio.get_running_loop().time() > self._used_at + QUIET_SECONDS:
            self._phase = "RSET"
            limit = min(RSET_SECONDS, self._limits.command_seconds)
            self._expect(200, await self._client.execute_command(b"RSET", timeout=limit))

    async def _connect(self) -> None:
        """Connect, and wait for the greeting."""
        name = self._server.options.ehlo or await asyncio.to_thread(_full_name)
        async with asyncio.timeout(self._limits.connect_seconds):
            connection = await _connected(self._server, self._limits.connect_seconds)
        self._phase = GREETING
        await self._client.connect(sock=connection, local_hostname=_ehlo_name(name, connection))
        self._client.timeout = self._limits.command_seconds

    async def _introduce(self) -> None:
        client, server = self._client, self._server
        await self._hello()
        if server.options.starttls != "never" and not server.uses_tls:
            self._phase = "STARTTLS"
            if client.supports_extension("starttls"):
                await client.starttls(tls_context=server.tls)
                await self._hello()
            elif server.options.starttls == "required":
                raise NotReady(f"the mail server {server} offers no STARTTLS, which EMAIL_URL requires")
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
        protocol, transport = self._client.protocol, self._transport
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

    def _failure(self, error: Exception) -> NotReady | TransientError:
        """The error for a phase that got no answer."""
        message = f"the mail server {self._server}, {self._phase}: {_text(error)}"
        return NotReady(message) if self._phase in OF_THE_SESSION else self._transient(message)

    def _transient(self, message: str) -> TransientError:
        """Once the final dot is sent, the server may have accepted the mail."""
        return OutcomeUnknown(message) if self._phase == FINAL_DOT else TransientError(message)

    def _refusal(self, answer: SMTPResponse) -> NotReady | TransientError | PermanentError:
        """The error for an answer other than the expected one."""
        self._has_answered = True
        message = f"the mail server answers {answer.code} {_printable(answer.message)} ({self._phase})"
        is_final = 500 <= answer.code < 600 and answer.code not in OUT_OF_STEP
        if self._phase in OF_THE_SESSION:
            is_denied = is_final and self._phase in ("AUTH", "MAIL")
            return AccessDenied(f"{message}. {WHAT_TO_DO}") if is_denied else NotReady(message)
        if not 400 <= answer.code < 600:  # not an answer that SMTP knows here
            return self._transient(message)
        return PermanentError("mail-refused", message) if is_final else TransientError(message)

    async def end(self) -> None:
        """QUIT if the server waits for a command, and close. Never fails: the mail's outcome is known already."""
        try:
            if self._has_answered and self._client.is_connected:
                await self._client.quit(timeout=QUIT_SECONDS)
        except FAILURES as error:
            logger.debug("mail_server.quit_failed", error=_text(error))
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        transport = self._transport
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
            return connection
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            failure = error
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

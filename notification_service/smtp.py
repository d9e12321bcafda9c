"""Mail over SMTP (RFC 5321): a connection a mail, a time limit for each phase, and what a failure in each phase means.

- Before the server has greeted, nothing was refused: the server is away, and mails wait for it.
- What refuses the session (the greeting, EHLO, STARTTLS, AUTH, MAIL) says nothing of the mail: it is tried again later.
- A 5xx to the recipient (RCPT) or to the content (DATA, the final dot) is for ever.
- Where the answer to the final dot does not come, the server may have taken the mail or not.
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
from notification_service.notifications import Letter
from notification_service.smtp_url import FULL_NAME, TRY_SECONDS, SmtpUrl
from shared.messaging.retry import NotReady, OutcomeUnknown, PermanentError, TransientError

CONNECTIONS = 10
"""At once, and so many deliveries are taken from the queue: none waits here for a connection."""

QUIT_SECONDS = 5.0
FLUSH_POLL_SECONDS = 0.05
ANSWER_LENGTH = 300

OF_THE_SESSION = frozenset({500, 502, 503, 504})
"""In answer to RCPT or DATA, too, these say that the server does not follow us, and nothing of the mail."""

FAILURES = (SMTPException, OSError, ValueError)
"""ValueError: what aiosmtplib raises where it can't read what the server sent, such as a challenge in AUTH."""

TRUST = "to trust its certificate add ?cafile=/path/to/certificate.pem to EMAIL_URL, to trust any add ?verify=no"

logger = structlog.get_logger(__name__)


class SmtpChannel:
    """Sends each letter over a connection of its own. Says in the log, once, that the server is away or back."""

    concurrency = CONNECTIONS

    def __init__(self, url: str) -> None:
        self._server = SmtpUrl.of(url)
        self._is_away = False
        self._leaving: set[asyncio.Task[None]] = set()

    async def send(self, letter: Letter) -> None:
        """As `Channel.send`; raises `NotReady` while the server is away."""
        recipient, content = recipient_of(letter), mail_of(letter)
        try:
            await self._send(recipient, content)
        except NotReady as error:
            self._has_gone(str(error))
            raise
        except (TransientError, PermanentError):
            self._is_back()
            raise
        self._is_back()

    async def _send(self, recipient: str, content: bytes) -> None:
        session = _Session(self._server)
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await session.open()
                await session.deliver(recipient, content)
        except TimeoutError as error:
            raise session.failure(f"all of it took longer than {TRY_SECONDS:g} s") from error
        finally:
            self._leave(session)

    def _leave(self, session: "_Session") -> None:
        """Say good-bye in the background: what was sent has to be recorded, and an answer to QUIT changes nothing."""
        if session.can_quit:
            task = asyncio.get_running_loop().create_task(session.quit())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        else:
            session.close()

    def _has_gone(self, reason: str) -> None:
        if not self._is_away:
            logger.warning("the mail server is away; mails wait for it", server=str(self._server), reason=reason)
        self._is_away = True

    def _is_back(self) -> None:
        if self._is_away:
            logger.info("the mail server is back", server=str(self._server))
        self._is_away = False


class _Session:
    """One connection and one mail. `phase`: what is going on, for the messages of errors."""

    def __init__(self, server: SmtpUrl) -> None:
        self._server, self._limits = server, server.limits
        self._socket: socket.socket | None = None
        self._client: aiosmtplib.SMTP | None = None
        self._is_greeted = self._dot_was_sent = self._has_answered = False
        self._phase = "connecting"

    @property
    def can_quit(self) -> bool:
        """Whether the server has said its last word on the mail, and waits for a command."""
        return self._has_answered and self._client is not None and self._client.is_connected

    async def open(self) -> None:
        """Connect, and wait for the greeting. Raises `NotReady`; `TransientError` if that is a refusal."""
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                self._socket = await _connected(self._server, self._limits.connect_seconds)
        except OSError as error:  # a TimeoutError is one, too
            raise self.failure(_text(error)) from error
        self._phase = "the greeting"
        self._client = aiosmtplib.SMTP(
            hostname=self._server.host, sock=self._socket,
            local_hostname=self._server.own_name or await _own_name(self._socket),
            use_tls=self._server.uses_tls, start_tls=False, tls_context=self._server.tls,
            timeout=self._limits.greeting_seconds,
        )  # fmt: skip
        self._socket = None  # from here on it is the client's
        try:
            await self._client.connect()
        except aiosmtplib.SMTPConnectResponseError as error:
            self._is_greeted = True
            raise self._refusal(SMTPResponse(error.code, error.message)) from error
        except FAILURES as error:
            raise self.failure(_text(error)) from error
        self._is_greeted = True
        self._client.timeout = self._limits.command_seconds

    async def deliver(self, recipient: str, content: bytes) -> None:
        """Returns once the server has taken the mail. Raises `TransientError`, `OutcomeUnknown`, `PermanentError`."""
        try:
            await self._introduce()
            await self._command("MAIL", f"FROM:<{SENDER.addr_spec}>")
            await self._command("RCPT", f"TO:<{recipient}>")
            await self._send(content)
        except aiosmtplib.SMTPResponseException as error:
            raise self._refusal(SMTPResponse(error.code, error.message)) from error
        except ssl.SSLCertVerificationError as error:  # as where `smtps` finds that out, before the greeting
            raise NotReady(f"the mail server {self._server}, {self._phase}: {_text(error)}") from error
        except FAILURES as error:
            raise self.failure(_text(error)) from error

    async def _introduce(self) -> None:
        client, server = self._connected_client, self._server
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
        client = self._connected_client
        self._phase = "EHLO"
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if not 500 <= error.code < 600 or not client.is_connected:
                raise
            self._phase = "HELO"
            await client.helo()

    async def _command(self, verb: str, argument: str) -> None:
        self._phase = verb
        answer = await self._connected_client.execute_command(verb.encode(), argument.encode("ascii"))
        if not 200 <= answer.code < 300:
            raise self._refusal(answer)

    async def _send(self, content: bytes) -> None:
        self._phase = "DATA"
        client = self._connected_client
        answer = await client.execute_command(b"DATA", timeout=self._limits.data_seconds)
        if not 300 <= answer.code < 400:
            raise self._refusal(answer)
        self._phase = "the mail's text"
        protocol, transport = client.protocol, cast("asyncio.WriteTransport | None", client.transport)
        if protocol is None or transport is None:
            raise ConnectionResetError("the connection was lost")
        async with asyncio.timeout(self._limits.content_seconds):
            protocol.write(_stuffed(content))
            while transport.get_write_buffer_size():  # noqa: ASYNC110 - aiosmtplib does not say when it is empty
                await asyncio.sleep(FLUSH_POLL_SECONDS)
        protocol.write(b".\r\n")
        self._phase, self._dot_was_sent = "the final dot", True
        answer = await protocol.read_response(timeout=self._limits.final_seconds)
        if not 200 <= answer.code < 300:
            raise self._refusal(answer)
        self._has_answered = True

    def failure(self, what: str) -> NotReady | TransientError:
        """What it means that this phase came to no end."""
        where = f"the mail server {self._server}, {self._phase}: {what}"
        if not self._is_greeted:
            return NotReady(where)
        return OutcomeUnknown(where) if self._dot_was_sent else TransientError(where)

    def _refusal(self, answer: SMTPResponse) -> TransientError | PermanentError:
        """What an answer means that is no consent."""
        self._has_answered = True
        what = f"the mail server answers {answer.code} {_printable(answer.message)} ({self._phase})"
        if not 400 <= answer.code < 600:  # no answer that SMTP knows here
            return OutcomeUnknown(what) if self._dot_was_sent else TransientError(what)
        is_of_the_mail = self._phase in ("RCPT", "DATA", "the final dot") and answer.code not in OF_THE_SESSION
        return PermanentError("mail-refused", what) if answer.code >= 500 and is_of_the_mail else TransientError(what)

    async def quit(self) -> None:
        """Never fails: what the server was to do is done, or will be tried again."""
        try:
            if self._client is not None:
                await self._client.quit(timeout=QUIT_SECONDS)
        except FAILURES as error:
            logger.debug("the mail server did not take leave", error=_text(error))
        finally:
            self.close()

    def close(self) -> None:
        """At once, in the middle of whatever goes on."""
        if self._client is not None:
            transport = cast("asyncio.WriteTransport | None", self._client.transport)
            self._client.close()
            if transport is not None:
                transport.abort()  # it would go on for as long as the server does not take what was written
        if self._socket is not None:
            self._socket.close()

    @property
    def _connected_client(self) -> aiosmtplib.SMTP:
        if self._client is None or not self._client.is_connected:
            raise ConnectionResetError("the connection was lost")
        return self._client


async def _connected(server: SmtpUrl, limit_seconds: float) -> socket.socket:
    """A connection to the first of the host's addresses that takes one. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    failed = OSError("its name has no address")
    for family, kind, protocol, _, address in addresses:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(limit_seconds / len(addresses)):  # one that is silent leaves time for the others
                await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failed = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failed


async def _own_name(connection: socket.socket) -> str:
    """For EHLO: this host's full name, or, where it has none, its address as RFC 5321 writes it."""
    name = await asyncio.to_thread(_full_name)
    if FULL_NAME.fullmatch(name) and not name.startswith("localhost."):
        return name
    address = str(connection.getsockname()[0])
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


@cache  # a look-up by name, which may take seconds
def _full_name() -> str:
    return socket.getfqdn()


def _stuffed(content: bytes) -> bytes:
    """As it goes over the wire: a dot at the beginning of a line is doubled, lest it look like the last one."""
    return re.sub(rb"(?m)^\.", b"..", content)


def _text(error: BaseException) -> str:
    while isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ is not None:
        error = error.__cause__  # what it says itself is which server, which we say as well
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; {TRUST}"
    return _printable(str(error) or type(error).__name__)


def _printable(answer: str) -> str:
    """A server's words on one line, without signs that a terminal or a database would take amiss."""
    return "".join(sign if sign.isprintable() else " " for sign in answer)[:ANSWER_LENGTH]

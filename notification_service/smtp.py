"""Mail over SMTP (RFC 5321): connections used for many mails each, and what a failure means for a mail.

A mail takes an idle connection or a new one. The server may have closed an idle one meanwhile, or take no more mails on
it, which says nothing about the mail: as long as none of the mail's content was sent, it begins anew on a new
connection, in the same attempt.
"""

import asyncio

import structlog

from notification_service.mail import mail_of
from notification_service.notifications import Notice
from notification_service.smtp_session import Session
from notification_service.smtp_url import TRY_SECONDS, SmtpUrl
from notification_service.templates import Templates
from shared.messaging.retry import NotReady, PermanentError, TransientError

IDLE_SECONDS = 30.0
"""How long a connection is kept without a mail. Servers wait five minutes (RFC 5321), busy ones ten seconds."""

MAILS = 100
"""On one connection: many servers allow no more, and load is spread anew over a server's replicas."""

CLOSE_SECONDS = 1.0

logger = structlog.get_logger(__name__)


class SmtpChannel:
    """Sends notices as mails. Logs once that the server is unavailable, and once its return."""

    def __init__(self, url: str, templates: Templates) -> None:
        self._server, self._templates = SmtpUrl.of(url), templates
        # The consumer takes as many deliveries, so that none waits here, unless it has just lost its broker.
        self.concurrency = self._server.options.connections
        self._free = asyncio.Semaphore(self.concurrency)
        self._sessions: set[Session] = set()
        self._idle: dict[Session, asyncio.TimerHandle] = {}
        self._ending: dict[Session, asyncio.Task[None]] = {}
        self._is_available = True

    async def send(self, notice: Notice) -> None:
        """As `NotificationChannel.send`; raises `NotReady` while the server is away."""
        recipient, content = mail_of(notice, self._templates.words(notice))
        deadline = asyncio.get_running_loop().time() + TRY_SECONDS
        try:
            async with self._free:
                await self._deliver(recipient, content, deadline)
        except NotReady as error:
            self._log(is_available=False, reason=str(error))
            raise
        except (TransientError, PermanentError):
            self._log(is_available=True)
            raise
        self._log(is_available=True)

    async def close(self) -> None:
        """Say QUIT on every connection that is idle."""
        while (session := self._take_idle()) is not None:
            self._end(session)
        if self._ending:
            await asyncio.wait(self._ending.values(), timeout=CLOSE_SECONDS)
        for session in self._ending:
            session.abort()

    async def _deliver(self, recipient: str, content: bytes, deadline: float) -> None:
        session = self._take_idle()
        if session is not None:
            try:
                await self._through(session, recipient, content, deadline)
                return
            except (NotReady, TransientError):
                if not session.is_stale:
                    raise
        await self._through(self._new(), recipient, content, deadline)

    async def _through(self, session: Session, recipient: str, content: bytes, deadline: float) -> None:
        try:
            await session.deliver(recipient, content, deadline)
        except BaseException:
            self._end(session)
            raise
        if session.mails < MAILS:
            self._idle[session] = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, session)
        else:
            self._end(session)

    def _take_idle(self) -> Session | None:
        """The open connection that was used last, so that those that are not needed expire."""
        while self._idle:
            session, expiry = self._idle.popitem()
            expiry.cancel()
            if session.is_open:
                return session
            self._sessions.discard(session)
        return None

    def _new(self) -> Session:
        """A session that is not connected yet. Makes room for it: what says QUIT is still a connection."""
        for session in list(self._ending):
            if len(self._sessions) < self.concurrency:
                break
            session.abort()
            self._sessions.discard(session)
        self._sessions.add(session := Session(self._server))
        return session

    def _expire(self, session: Session) -> None:
        del self._idle[session]
        self._end(session)

    def _end(self, session: Session) -> None:
        """In the background: the answer to QUIT changes nothing, and the mail's outcome can be recorded meanwhile."""
        self._ending[session] = ending = asyncio.get_running_loop().create_task(session.end())
        ending.add_done_callback(lambda _task: self._ended(session))

    def _ended(self, session: Session) -> None:
        del self._ending[session]
        self._sessions.discard(session)

    def _log(self, *, is_available: bool, **reason: str) -> None:
        if is_available and not self._is_available:
            logger.info("mail_server.available", server=str(self._server))
        if self._is_available and not is_available:
            logger.warning("mail_server.unavailable", server=str(self._server), **reason)
        self._is_available = is_available

"""A client's connection: how much it may send, and for how long, before the limits of the application count.

Uvicorn's protocol on httptools takes headers without end and waits for the rest of a request for ever. Every refusal is
a problem like all others; where a client is still sending, its connection is closed only after it could read that.
"""

import asyncio
import logging
import sys
from typing import Any, ClassVar

import httptools
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from shared.http.limits import Limits, is_host
from shared.http.problems import RETRY_AFTER_SECONDS, Problem, is_logged

_VERSIONS = ("1.1", "1.0")
_CHECKED = frozenset((b"host", b"transfer-encoding", b"expect"))

logger = structlog.get_logger(__name__)


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol with limits. A request that comes in one piece, as nearly all do, costs no timer."""

    limits: ClassVar[Limits] = Limits()
    cycle: Any  # the last request's; None before the first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _AnswerLog()  # type: ignore[assignment]
        self.url = b""
        self._is_arriving = False  # a request has begun and is not whole
        self._has_head = False  # and what is missing is of its body
        self._is_deaf = False  # nothing that comes counts any more
        self._completed_one = False
        self._hosts = 0
        self._plain_head = b""
        self._answered: RequestResponseCycle | None = None
        self._pending_bytes = 0  # at most so many of the request that is arriving are here
        self._earlier_bytes = 0  # so many of which may have belonged to others
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    # --- what comes

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._allow(self.limits.request_seconds)
        if len(self.connections) > self.limits.connections:
            detail = f"The service has as many connections as it takes, {self.limits.connections}"
            self._refuse(Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}))

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        self._completed_one = False
        self._pending_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_problem_of(error))
        else:
            if self._is_arriving or self.cycle is None or self.cycle.response_complete:
                self._wait_for_rest(len(data))
            else:
                self._pending_bytes = 0
                if self._deadline is not None:
                    self._arrived()

    def _upgrade(self, rest: bytes) -> None:
        if self._plain_head:
            head, self._plain_head = self._plain_head, b""
            self.parser = httptools.HttpRequestParser(self)
            self.data_received(head + rest)
        else:
            self._is_deaf = True
            self._arrived()
            self.handle_websocket_upgrade()

    def on_url(self, url: bytes) -> None:
        self._is_arriving, self._has_head, self._hosts = True, False, 0
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            raise Problem(414, f"The path and query are over {self.limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            return  # a trailer: it is no header, whatever it says (RFC 9110, 6.5.1)
        name = name.lower()
        if name in _CHECKED:
            self._check_header(name, value)
        self.headers.append((name, value))

    def _check_header(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if not is_host(value):
                raise Problem(400, "Host: expected a name or an address, and perhaps a port")
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise Problem(501, "Transfer-Encoding: expected chunked")
        elif name == b"expect":
            is_new = self.parser.get_http_version() != "1.0"
            self.expect_100_continue = is_new and value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        if self._pending_bytes > self.limits.header_bytes or len(self.headers) > self.limits.headers:
            self._check_sizes()
        if self._hosts != 1:
            self._check_hosts()
        if len(self.pipeline) >= self.limits.pipelined:
            raise Problem(429, f"Over {self.limits.pipelined} requests wait on this connection for their answers")
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._plain_head = self._without_upgrade()
            return
        super().on_headers_complete()
        self._has_head = True
        if (version := self.scope["http_version"]) not in _VERSIONS:
            raise Problem(505, f"HTTP/{version}: expected HTTP/1.1 or HTTP/1.0")

    def _check_hosts(self) -> None:
        if self._hosts > 1 or self.parser.get_http_version() == "1.1":
            raise Problem(400, f"Host: expected it once, got it {self._hosts} times")

    def _without_upgrade(self) -> bytes:
        """The head once more. An upgrade that we don't know is ignored (RFC 9110, 7.8), but the parser can't be told
        so: it takes the body for the other protocol. (Java's HTTP client asks for `h2c` with each first request.)"""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise Problem(501, "CONNECT: this is no proxy")
        headers = [b"%s: %s" % each for each in self.headers if each[0] != b"upgrade"]
        return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *headers, b"", b""])

    def on_message_complete(self) -> None:
        if self._plain_head:
            return
        self._is_arriving, self._completed_one = False, True
        super().on_message_complete()

    def _check_sizes(self) -> None:
        limits, size = self.limits, 0
        if len(self.headers) > limits.headers:
            raise Problem(431, f"There are over {limits.headers} headers")
        for name, value in self.headers:
            length = len(name) + len(value)
            size += length
            if length > limits.header_bytes:
                raise Problem(431, f"The header {name[:50].decode('latin-1')} is over {limits.header_bytes} bytes")
        if size > limits.headers_bytes:
            raise self._headers_too_large()

    def _headers_too_large(self) -> Problem:
        return Problem(431, f"The headers are over {self.limits.headers_bytes} bytes")

    # --- what does not come

    def _wait_for_rest(self, received: int) -> None:
        """After a piece of a request, or nothing but blank lines: for so long, and no longer than so much."""
        if self._is_deaf:
            return
        if self._deadline is None:
            self._allow(self.limits.request_seconds)
        if self._is_arriving and self._has_head and not isinstance(self.cycle.transport, _Lingering):
            self.cycle.transport = _Lingering(self)
        if self._completed_one:
            self._earlier_bytes = received  # how much of it belonged to requests that are whole is not known
        if self._pending_bytes - self._earlier_bytes > self._most_bytes():
            self._refuse(Problem(413, "The body is too long") if self._has_head else self._headers_too_large())

    def _most_bytes(self) -> int:
        limits = self.limits
        return limits.request_bytes if self._has_head else limits.target_bytes + limits.headers_bytes

    def _allow(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._late)

    def _arrived(self) -> None:
        self._pending_bytes = self._earlier_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.flow.read_paused:  # it is we who keep it waiting
            self._allow(self.limits.request_seconds)
        elif self._is_arriving:
            self._refuse(Problem(408, f"The request was not whole after {self.limits.request_seconds:g} s"))
        else:
            self.transport.close()

    # --- what is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _until_closed(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _refuse(self, problem: Problem) -> None:
        """Answer so as the last thing on this connection, after what is still to be answered before it."""
        self._is_deaf = True
        self._arrived()
        logger.info("request refused", status=problem.status, reason=problem.detail)
        if self._is_answered():
            return
        is_busy = self._leave_the_request()
        answer = problem.response(self.url.partition(b"?")[0][:100].decode("latin-1") or None)
        self.cycle = self._last_cycle()
        if is_busy:
            self.pipeline.appendleft((self.cycle, answer))  # type: ignore[arg-type]
        else:
            self._start_asgi_task(self.cycle, answer)

    def _is_answered(self) -> bool:
        """Whether the request that is arriving has its answer, or the beginning of one; then that is the last."""
        if not (self._is_arriving and self._has_head) or not self.cycle.response_started:
            return False
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.linger()
        return True

    def _leave_the_request(self) -> bool:
        """To its application, if that has it already, the client is gone. Whether another has to be answered first."""
        cycle = self.cycle
        if not (self._is_arriving and self._has_head):
            return bool(cycle is not None and not cycle.response_complete)
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            return True
        cycle.disconnected = True
        cycle.message_event.set()
        return False

    def _last_cycle(self) -> RequestResponseCycle:
        method = self.parser.get_method().decode() if self.url else "GET"
        return RequestResponseCycle(
            scope={"type": "http", "method": method, "http_version": "1.1"},  # type: ignore[typeddict-item]
            transport=_Lingering(self),  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )

    def linger(self) -> None:
        """No more answers; let the client go on sending for a while, and throw that away."""
        self._is_deaf = True
        self._arrived()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._deadline = self.loop.call_later(self.limits.linger_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_read()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._is_read()
        self._unset_keepalive_if_required()
        for cycle in (self._answered, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:  # uvicorn tells the last one alone
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)


def limited(limits: Limits) -> type[Connection]:
    """The protocol for `uvicorn.Config(http=...)`, with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})


def _problem_of(error: httptools.HttpParserError) -> Problem:
    if isinstance(error.__context__, Problem):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        return Problem(400, "The target of the request is no path")
    return Problem(400, f"No HTTP/1.1 request: {error}")


def _until_closed(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """`app` for a client of HTTP/1.0, which knows no chunks: a body of unknown length ends with the connection."""
    has_length = True

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def unchunked(message: Message) -> None:
            nonlocal has_length
            if message["type"] == "http.response.start":
                has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
                if not has_length:
                    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
            elif not has_length and not message.get("more_body", False):
                await send({**message, "more_body": True})
                cycle.expected_content_length = 0  # that was all
                message = {"type": "http.response.body"}
            await send(message)

        await app(scope, receive, unchunked)

    return answer


class _Lingering:
    """A transport to a client that is still sending: closing it is not the end at once."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.linger


class _AnswerLog:
    """What uvicorn logs about answers, without the errors that the log tells of already.

    Nor is a cancelled answer an error: it was not ready when the server stopped, and how many were not is logged.
    """

    level = logging.WARNING

    def error(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        if not is_logged(exc_info) and not isinstance(exc_info, asyncio.CancelledError):
            logging.getLogger("uvicorn.error").error(message, *args, exc_info=exc_info)

    def warning(self, message: str, *args: Any) -> None:
        logging.getLogger("uvicorn.error").warning(message, *args)

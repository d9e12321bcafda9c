"""A client's connection: limits on the size and the time of each request, before the application sees it.

Uvicorn's httptools protocol accepts headers without end and waits without end for the rest of a request. Here each
refusal is a problem. If the client is still sending, the connection closes only after it could read the answer.
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
from shared.http.problems import Problem, is_logged

_VERSIONS = ("1.1", "1.0")
_CHECKED = frozenset((b"host", b"transfer-encoding", b"expect"))

logger = structlog.get_logger(__name__)


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol with limits. A request that arrives in one piece, as nearly all do, needs no timer."""

    limits: ClassVar[Limits] = Limits()
    cycle: Any  # the last request's; None before the first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _AnswerLog()  # type: ignore[assignment]
        self.url = b""
        self._is_arriving = False  # a request has begun and is incomplete
        self._has_head = False  # the head of the last request is complete
        self._ignores_input = False  # the last answer of this connection is chosen
        self._has_completed = False  # a request was completed by the data that is being read
        self._hosts = 0
        self._header_bytes = 0
        self._head_without_upgrade = b""
        self._answered: RequestResponseCycle | None = None  # the request whose answer is under way
        self._pending_bytes = 0  # of the incomplete request
        self._deadline: asyncio.TimerHandle | None = None
        self._unread_deadline: asyncio.TimerHandle | None = None

    # --- reading requests

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_deadline()
        if len(self.connections) > self.limits.connections:
            detail = f"The service has as many connections as it takes, {self.limits.connections}"
            self._refuse(Problem.unavailable(detail))

    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            return
        self._unset_keepalive_if_required()
        self._has_completed = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_problem_of(error))
        else:
            self._pending_bytes = 0 if self._has_completed else self._pending_bytes + len(data)
            if self._is_arriving or self.cycle is None or self.cycle.response_complete:
                self._limit_incomplete_request()
            else:
                self._stop_deadline()

    def _upgrade(self, rest: bytes) -> None:
        if self._head_without_upgrade:
            head, self._head_without_upgrade = self._head_without_upgrade, b""
            self.parser = httptools.HttpRequestParser(self)
            self.data_received(head + rest)
        else:
            self._ignores_input = True
            self._stop_deadline()
            self.handle_websocket_upgrade()

    def on_url(self, url: bytes) -> None:
        self._is_arriving, self._has_head, self._hosts, self._header_bytes = True, False, 0, 0
        self.url += url
        if len(self.url) > self.limits.target_bytes:
            raise Problem(414, f"The path and query are over {self.limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            return  # a trailer: not to be merged into the headers (RFC 9110, 6.5.1)
        name = name.lower()
        if name in _CHECKED:
            self._check_header(name, value)
        self.headers.append((name, value))
        self._header_bytes += len(name) + len(value)
        limits = self.limits
        if self._header_bytes > limits.header_bytes or len(self.headers) > limits.headers:
            self._check_sizes(name, value)

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

    def _check_sizes(self, name: bytes, value: bytes) -> None:
        limits = self.limits
        if len(name) + len(value) > limits.header_bytes:
            raise Problem(431, f"The header {name[:50].decode('latin-1')} is over {limits.header_bytes} bytes")
        if self._header_bytes > limits.headers_bytes:
            raise self._headers_too_large()
        if len(self.headers) > limits.headers:
            raise Problem(431, f"There are over {limits.headers} headers")

    def _headers_too_large(self) -> Problem:
        return Problem(431, f"The headers are over {self.limits.headers_bytes} bytes")

    def on_headers_complete(self) -> None:
        if self._hosts > 1 or (self._hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise Problem(400, f"Host: expected it once, got it {self._hosts} times")
        if len(self.pipeline) >= self.limits.pipelined:
            raise Problem(429, f"Over {self.limits.pipelined} requests wait on this connection for their answers")
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._head_without_upgrade = self._without_upgrade()
            return
        super().on_headers_complete()
        self._has_head = True
        if (version := self.scope["http_version"]) not in _VERSIONS:
            raise Problem(505, f"HTTP/{version}: expected HTTP/1.1 or HTTP/1.0")

    def _without_upgrade(self) -> bytes:
        """The head without its `Upgrade` header, for another parser. An unknown upgrade is to be ignored (RFC 9110,
        7.8), but this parser takes the body for the other protocol. (Java's HTTP client asks for `h2c`.)"""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise Problem(501, "CONNECT: this is no proxy")
        headers = [b"%s: %s" % each for each in self.headers if each[0] != b"upgrade"]
        return b"\r\n".join([b"%s %s HTTP/%s" % (method, self.url, version), *headers, b"", b""])

    def on_message_complete(self) -> None:
        if self._head_without_upgrade:
            return
        self._is_arriving, self._has_completed = False, True
        super().on_message_complete()

    # --- waiting for the rest of a request

    def _limit_incomplete_request(self) -> None:
        """Limit the time and the size of a part of a request, or of blank lines."""
        if self._deadline is None:
            self._start_deadline()
        if self._is_arriving and self._has_head and not isinstance(self.cycle.transport, _LingeringTransport):
            self.cycle.transport = _LingeringTransport(self)
        limits = self.limits
        if self._has_head and self._pending_bytes > limits.request_bytes:
            self._refuse(Problem(413, "The body is too long"))
        elif not self._has_head and self._pending_bytes > limits.target_bytes + limits.headers_bytes:
            self._refuse(self._headers_too_large())

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.limits.request_seconds, self._on_deadline)

    def _stop_deadline(self) -> None:
        self._pending_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        if self.flow.read_paused:  # the application does not read: no fault of the client
            self._start_deadline()
        elif self._is_arriving:
            self._refuse(Problem(408, f"The request was not whole after {self.limits.request_seconds:g} s"))
        else:
            self.transport.close()

    # --- answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _without_chunks(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _refuse(self, problem: Problem) -> None:
        """Send `problem` after the answers to earlier requests, as the last answer of this connection."""
        self._ignores_input = True
        self._stop_deadline()
        logger.info("http.request_refused", status=problem.status, reason=problem.detail)
        if self._is_answered():
            return
        has_earlier = self._abandon_request()
        answer = problem.response(self.url.partition(b"?")[0][:100].decode("latin-1") or None)
        self.cycle = self._last_cycle()
        if has_earlier:
            self.pipeline.appendleft((self.cycle, answer))  # type: ignore[arg-type]
        else:
            self._start_asgi_task(self.cycle, answer)

    def _is_answered(self) -> bool:
        """Whether the incomplete request has an answer, or the beginning of one; that one becomes the last."""
        if not (self._is_arriving and self._has_head) or not self.cycle.response_started:
            return False
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.linger()
        return True

    def _abandon_request(self) -> bool:
        """Tell the application that the client of the incomplete request is gone.

        Returns whether an earlier request waits for its answer.
        """
        cycle = self.cycle
        if not (self._is_arriving and self._has_head):
            return bool(cycle is not None and not cycle.response_complete)
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            return True
        _disconnect(cycle)
        return False

    def _last_cycle(self) -> RequestResponseCycle:
        method = self.parser.get_method().decode() if self.url else "GET"
        return RequestResponseCycle(
            scope={"type": "http", "method": method, "http_version": "1.1"},  # type: ignore[typeddict-item]
            transport=_LingeringTransport(self),  # type: ignore[arg-type]
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
        """Send no more answers. Read and drop what the client still sends, for `linger_seconds`, then abort."""
        self._ignores_input = True
        self._stop_deadline()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._deadline = self.loop.call_later(self.limits.linger_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_deadline = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_deadline()

    def _stop_unread_deadline(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
            self._unread_deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        self._stop_unread_deadline()
        self._unset_keepalive_if_required()
        for cycle in (self._answered, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:  # uvicorn itself disconnects only the last one
                _disconnect(cycle)
        self.pipeline.clear()
        super().connection_lost(exc)


def limited(limits: Limits) -> type[Connection]:
    """The protocol for `uvicorn.Config(http=...)`, with these limits."""
    return type("LimitedConnection", (Connection,), {"limits": limits})


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _problem_of(error: httptools.HttpParserError) -> Problem:
    if isinstance(error.__context__, Problem):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        return Problem(400, "The target of the request is no path")
    return Problem(400, f"No HTTP/1.1 request: {error}")


def _without_chunks(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """`app` for a client of HTTP/1.0, which knows no chunks: the body ends with the connection."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def unchunked(message: Message) -> None:
            if message["type"] == "http.response.start":
                cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
            elif not message.get("more_body", False):
                await send({**message, "more_body": True})
                cycle.expected_content_length = 0  # as uvicorn expects it at the end
                message = {"type": "http.response.body"}
            await send(message)

        await app(scope, receive, unchunked)

    return answer


class _LingeringTransport:
    """The transport of a client that is still sending: `close` lingers."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.linger


class _AnswerLog:
    """The logger that uvicorn uses for answers. It drops the errors that are logged already, and cancelled answers.

    An answer is cancelled when the server stops before it is ready. Uvicorn logs how many.
    """

    level = logging.WARNING

    def error(self, message: str, *args: Any, exc_info: BaseException | None = None) -> None:
        if not is_logged(exc_info) and not isinstance(exc_info, asyncio.CancelledError):
            logging.getLogger("uvicorn.error").error(message, *args, exc_info=exc_info)

    def warning(self, message: str, *args: Any) -> None:
        logging.getLogger("uvicorn.error").warning(message, *args)

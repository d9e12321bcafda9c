"""HTTP requests over few kept-alive connections, cheaply: what load on a service is made of.

Plain HTTP/1.1 on an asyncio protocol, since a general client would cost more processor time than the service itself.
`Connections` is for coroutines; a `Connection` alone, which calls back, costs less still.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

CONNECT_TIMEOUT_SECONDS = 5.0
IDLE_SECONDS = 15.0
"""A connection is not used again after this time: a service closes it after 30 s, perhaps under the next request."""
LONGEST_HEAD_BYTES = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length:"
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class AnswerLost(Exception):
    """No answer came. The server may have done what was requested, or not: repeat it with the same key."""


@dataclass(slots=True)
class Answer:
    """An HTTP answer. `head`: the status line and the headers."""

    status: int
    head: bytes
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {self.body[:200].decode(errors='replace')}"

    @property
    def is_last(self) -> bool:
        """Whether the server takes no further request on its connection."""
        return _CLOSE.search(self.head) is not None


OnOutcome = Callable[[Answer | Exception], None]
"""Gets the answer, OSError where the server closes the connection, or ValueError for an answer that is malformed."""


def address_of(url: str) -> tuple[str, int]:
    """Host and port. Raises ValueError for a malformed URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 80


def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A POST of JSON, ready to be sent as often as needed."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body


class Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport
        self._received = b""
        self._on_outcome: OnOutcome | None = None

    @classmethod
    async def to(cls, host: str, port: int) -> "Connection":
        """Connect. Raises OSError."""
        connecting = asyncio.get_running_loop().create_connection(cls, host, port)
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            return (await connecting)[1]

    def send(self, request: bytes, on_outcome: OnOutcome) -> None:
        """Send a request; `on_outcome` is called once, later."""
        self._on_outcome = on_outcome
        self._transport.write(request)

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._on_outcome is None:  # without a request: it must not be taken for the next request's answer
            self.close()
            return
        self._received += data
        try:
            answer = _read(self._received)
        except ValueError as error:
            self._report(error)
            return
        if answer is not None:
            self._received = b""
            self._report(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._report(exc if isinstance(exc, OSError) else ConnectionResetError("the server closed the connection"))

    def _report(self, outcome: Answer | Exception) -> None:
        on_outcome, self._on_outcome = self._on_outcome, None
        if on_outcome is not None:
            on_outcome(outcome)


class Connections:
    """Kept-alive connections to one server; as many as there are requests under way, at most `limit`."""

    def __init__(self, url: str, limit: int = 100) -> None:
        self._address = address_of(url)
        self._idle: list[tuple[float, Connection]] = []  # since when
        self._free = asyncio.Semaphore(limit)

    async def ask(self, request: bytes, timeout_seconds: float = 10.0) -> Answer:
        """Send a request and read its answer. Raises AnswerLost; the wait for a free connection does not count."""
        async with self._free:
            try:
                async with asyncio.timeout(timeout_seconds):
                    return await self._ask(request)
            except (OSError, ValueError) as error:  # TimeoutError is an OSError
                self.close()  # the server is probably gone, and with it its ends of the idle connections
                raise AnswerLost(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _ask(self, request: bytes) -> Answer:
        connection = self._take_idle() or await Connection.to(*self._address)
        outcome: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        connection.send(request, lambda result: _resolve(outcome, result))
        try:
            answer = await outcome
        except BaseException:
            connection.close()  # a late answer on it would be taken for the next one
            raise
        if answer.is_last:
            connection.close()
        else:
            self._idle.append((asyncio.get_running_loop().time(), connection))
        return answer

    def _take_idle(self) -> Connection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_open and since > oldest:
                return connection
            connection.close()
        return None


def _resolve(outcome: "asyncio.Future[Answer]", result: Answer | Exception) -> None:
    if outcome.done():  # cancelled
        return
    if isinstance(result, Answer):
        outcome.set_result(result)
    else:
        outcome.set_exception(result)


def _read(received: bytes) -> Answer | None:
    """The answer, None while parts are missing. Raises ValueError if it is malformed or without a length."""
    head, end, body = received.partition(END_OF_HEAD)
    if not end:
        if len(received) > LONGEST_HEAD_BYTES:
            raise ValueError(f"the answer's head is over {LONGEST_HEAD_BYTES} bytes")
        return None
    if not head.startswith(b"HTTP/1."):
        raise ValueError("no HTTP answer")
    length = head.lower().partition(LENGTH)[2].partition(b"\r\n")[0]
    if not length:
        raise ValueError("the answer does not say its length")
    missing = int(length) - len(body)
    if missing < 0:
        raise ValueError("the answer is longer than it says")
    return None if missing else Answer(int(head[9:12]), head, body)

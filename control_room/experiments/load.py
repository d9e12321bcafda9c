"""Load on an HTTP service: many requests over few kept-alive connections, cheaply, at times planned beforehand.

An open model: requests leave when they are due, whether or not the answers to those before have come, as customers
do. So latency counts from the moment a request was due: a server that stalls can't hide it by slowing the load down.
Plain HTTP/1.1 on an asyncio protocol, since a general client would cost more processor time than the service itself.
"""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

CONNECT_TIMEOUT_SECONDS = 5.0
TICK_SECONDS = 0.002
"""Requests that are due this close together leave together: fewer wake-ups, each of which costs a system call."""

LONGEST_HEAD_BYTES = 64 * 1024
END_OF_HEAD = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class AnswerLost(Exception):
    """No answer came. The server may have done what it was asked, or not: ask again with the same key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; its head is taken apart only for those who ask for its headers."""

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """By name in lower case."""
        _, *lines = self.head.decode("latin-1").split("\r\n")
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def is_last(self) -> bool:
        """Whether the server takes no further request on its connection."""
        return _CLOSE.search(self.head) is not None


def post(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A POST of JSON, ready to be sent as often as needed."""
    parts = urlsplit(url)
    lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode() + body


def poisson(rate: float, dice: random.Random) -> Iterator[float]:
    """When customers come who know nothing of each other, in seconds from the start: `rate` a second, without end."""
    at = 0.0
    while True:
        at += dice.expovariate(rate)
        yield at


async def at_their_times(times: Iterable[float], start: Callable[[int, float], Awaitable[None]]) -> None:
    """Call `start(index, due)` for each time, not before it is due, nor a tick after unless the machine is busy.

    It does not wait for the ones before. `times` are in seconds from now, `due` is on the clock of `time.monotonic`.
    Returns once all have ended; cancelled, it cancels them. An exception of one ends all.
    """
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for index, at in enumerate(times):
            if (wait := began + at - time.monotonic()) > 0:
                await asyncio.sleep(max(wait, TICK_SECONDS))
            group.create_task(_started(start, index, began + at))


async def _started(start: Callable[[int, float], Awaitable[None]], index: int, due: float) -> None:
    await start(index, due)


class Connections:
    """Kept-alive connections to one server; as many as there are requests under way, at most `limit`."""

    def __init__(self, url: str, limit: int = 100) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(limit)

    async def ask(self, request: bytes, timeout_seconds: float = 10.0) -> Answer:
        """Send a request and read its answer. Raises AnswerLost; the wait for a free connection does not count."""
        async with self._free:
            try:
                async with asyncio.timeout(timeout_seconds):
                    return await self._ask(request)
            except (OSError, ValueError) as error:  # TimeoutError is an OSError
                self.close()  # the server has gone, as likely as not, and with it the other ends of these
                raise AnswerLost(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, request: bytes) -> Answer:
        connection = self._take_idle() or await self._connect()
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()  # what may still come on it belongs to no one
            raise
        if answer.is_last:
            connection.close()
        else:
            self._idle.append(connection)
        return answer

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:  # the server closes what was idle too long
                return connection
        return None

    async def _connect(self) -> "_Connection":
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
            return connection


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        """Raises OSError where the server hangs up, ValueError for what is no answer or does not say its length."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.is_open = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind, which does not inherit from it
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: it must not be taken for the answer to the next request
            self.close()
            return
        self._received += data
        try:
            answer = _read(self._received)
        except ValueError as error:
            self._settle(error)
        else:
            if answer is not None:
                self._received = b""
                self._settle(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._settle(exc if isinstance(exc, OSError) else ConnectionResetError("the server hung up"))

    def _settle(self, outcome: Answer | Exception) -> None:
        waiting, self._answer = self._answer, None
        if waiting is None or waiting.done():  # idle, or nobody waits any longer
            return
        if isinstance(outcome, Answer):
            waiting.set_result(outcome)
        else:
            waiting.set_exception(outcome)


def _read(received: bytes) -> Answer | None:
    """The answer, once it is whole. Raises ValueError for what is none or does not say its length."""
    head, end, body = received.partition(END_OF_HEAD)
    if not end:
        if len(received) > LONGEST_HEAD_BYTES:
            raise ValueError(f"the answer's head is over {LONGEST_HEAD_BYTES} bytes")
        return None
    status, length = _STATUS.match(head), _LENGTH.search(head)
    if status is None or length is None:
        raise ValueError("the answer does not say its length" if status else "no HTTP answer")
    if len(body) > int(length[1]):
        raise ValueError("the answer is longer than it says")
    return Answer(int(status[1]), head, body) if len(body) == int(length[1]) else None

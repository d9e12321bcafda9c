"""Load on an HTTP service: many requests over few kept-alive connections, cheaply, at times planned beforehand.

An open model: requests leave when they are due, whether or not the answers to those before have come, as customers
do. So latency counts from the moment a request was due: a server that stalls can't hide it by slowing the load down.
Plain HTTP/1.1 on asyncio's streams, since a general client would cost more processor time than the service itself.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECT_TIMEOUT_SECONDS = 5.0
LONGEST_HEAD_BYTES = 64 * 1024


class AnswerLost(Exception):
    """No answer came. The server may have done what it was asked, or not: ask again with the same key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


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
    """Call `start(index, due)` for each time, not before it is due and without waiting for the ones before.

    `times` are in seconds from now, `due` is on the clock of `time.monotonic`. Returns once all have ended; cancelled,
    it cancels them. An exception of one ends all.
    """
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for index, at in enumerate(times):
            if (wait := began + at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            group.create_task(_started(start, index, began + at))


async def _started(start: Callable[[int, float], Awaitable[None]], index: int, due: float) -> None:
    await start(index, due)


class Connections:
    """Kept-alive connections to one server; as many as there are requests under way, at most `limit`."""

    def __init__(self, url: str, limit: int = 100) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._free = asyncio.Semaphore(limit)

    async def ask(self, request: bytes, timeout_seconds: float = 10.0) -> Answer:
        """Send a request and read its answer. Raises AnswerLost; the wait for a free connection does not count."""
        async with self._free:
            try:
                async with asyncio.timeout(timeout_seconds):
                    return await self._ask(request)
            except (OSError, EOFError, ValueError) as error:  # TimeoutError is an OSError
                self.close()  # the server has gone, as likely as not, and with it the other ends of these
                raise AnswerLost(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """Close those that are idle."""
        while self._idle:
            self._idle.pop()[1].close()

    async def _ask(self, request: bytes) -> Answer:
        reader, writer = self._take_idle() or await self._connect()
        try:
            writer.write(request)
            answer = await _read_answer(reader)
        except BaseException:
            writer.close()  # what may still come on it belongs to no one
            raise
        if answer.headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer

    def _take_idle(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # the server closes what was idle too long
                return reader, writer
            writer.close()
        return None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            return await asyncio.open_connection(self._host, self._port, limit=LONGEST_HEAD_BYTES)


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    """Only answers that say their length: ValueError for any other."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ValueError("the answer does not say its length")
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(status_line.split(" ")[1]), headers, body)

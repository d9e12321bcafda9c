"""HTTP as bytes on a socket: what no client library would send, and what the server makes of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 15.0

MIB = 1024 * 1024
HOST = b"Host: here\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
POST = b"POST /orders HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"customer_email":"ada@example.com","items":[{"sku":"cola","quantity":1}]}'
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
H2C = POST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
A_CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@dataclass(frozen=True)
class Answer:
    """`headers` have their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """The problem that it must be."""
        assert self.headers["content-type"] == "application/problem+json", self
        told: dict[str, Any] = json.loads(self.body)
        assert told["status"] == self.status
        assert told["detail"]
        return told


class Closed(Exception):
    """The server closed the connection without an answer, or in the middle of one."""


class Line:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Returns once the system has taken it, or will take no more of it since the server has closed."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            pass  # there may be an answer all the same

    async def pour(self, head: bytes, filling: bytes, total: int) -> int:
        """Send `head`, then `filling` over and over, until `total` bytes or until the server has had enough."""
        sent = len(head)
        await self.send(head)
        while sent < total and not self._writer.is_closing() and not self._reader.at_eof():
            await self.send(filling)
            sent += len(filling)
            await asyncio.sleep(0)  # let what comes be read
        return sent

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer to a request with this method. Raises Closed."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status, headers = _parsed(head.splitlines())
                if status == 100:
                    return Answer(status, headers, b"")
                return Answer(status, headers, await self._body(method, status, headers))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Closed from error

    async def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if "transfer-encoding" not in headers and "content-length" not in headers:
            return await self._reader.read()
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers["content-length"]))
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body

    async def is_closed(self) -> bool:
        """Waits until the server has closed it. Fails if more comes instead, or nothing at all for long."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                return await self._reader.read(1) == b""
            except ConnectionError:
                return True

    def stop_reading(self) -> None:
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket, which it is

    def hang_up(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()


def _parsed(lines: Iterable[str]) -> tuple[int, dict[str, str]]:
    first, *rest = [line for line in lines if line]
    fields = (line.partition(":") for line in rest)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Line]:
    """A connection to a port of this machine; it is cut at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, request: bytes, method: str = "GET") -> Answer:
    """The answer to one request on a connection of its own."""
    async with connected(port) as line:
        await line.send(request)
        return await line.answer(method)

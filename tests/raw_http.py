"""HTTP as bytes on a socket: requests that no client library would send, and the server's answers to them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from tests.support import eventually

TIMEOUT_SECONDS = 15.0
MIB = 1024 * 1024

HOST = b"Host: here\r\n"
END = b" HTTP/1.1\r\n" + HOST + b"\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
POST = b"POST /orders HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"customer_email":"ada@example.com","items":[{"sku":"cola","quantity":1}]}'
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
A_CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@dataclass(frozen=True)
class Answer:
    """`headers` have their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def detail(self) -> str:
        """The sentence of the problem that this answer must be."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        return str(problem["detail"])


class Closed(Exception):
    """The server closed the connection without an answer, or in the middle of one."""


class Line:
    """One connection to the server. `port`: its own end's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    async def send(self, data: bytes) -> None:
        """Returns once the system has taken it, or will take no more of it since the server has closed."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            pass  # there may be an answer all the same

    async def send_endlessly(self, head: bytes, filling: bytes, total: int) -> None:
        """Send `head`, then `filling` repeatedly, until `total` bytes or until the server closes."""
        sent = len(head)
        await self.send(head)
        while sent < total and not self._writer.is_closing() and not self._reader.at_eof():
            await self.send(filling)
            sent += len(filling)
            await asyncio.sleep(0)  # let the reader run

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer to a request with this method. Raises Closed."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                first, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
                pairs = (field.partition(":") for field in fields)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                status = int(first.split(" ")[1])
                has_body = method != "HEAD" and status not in (100, 204, 304)
                return Answer(status, headers, await self._body(headers) if has_body else b"")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Closed from error

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.read()
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
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it

    def hang_up(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Line]:
    """A connection to a port of this machine; it is reset at the end of the block."""
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


async def send_and_leave(port: int, server_pid: int, sent: bytes, way: str) -> None:
    """Send, leave by `hang_up` or `reset` once the server has the connection, and wait until the server has closed."""

    async with connected(port) as line:

        def is_open() -> bool:
            sockets = psutil.Process(server_pid).net_connections("tcp")
            return any(each.laddr.port == port and each.raddr[1:] == (line.port,) for each in sockets)

        await line.send(sent)
        await eventually(is_open, expecting="the connection to be there")
        getattr(line, way)()
        await eventually(lambda: not is_open(), expecting="the connection to be gone")

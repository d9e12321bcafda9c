"""A TCP proxy in front of PostgreSQL that lets a COMMIT through and cuts the connection before its answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Cut:
    """`cuts`: how many commits are still to be left without an answer; `done`: how many were.

    `after`: only commits of a transaction that has sent these bytes. `swallows`: how many of them do not even reach the
    server. `keeps_open`: their connections stay, without a word. `closes`: with the first cut nobody can connect any
    more, until `is_closed` is set to False.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = self.swallows = self.done = 0
        self.closes = self.is_closed = self.keeps_open = False
        self.after = b""

    async def serve(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        if self.is_closed:
            client_writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_connection(*self._server)
        connection = _Connection(self, client_writer, server_writer)
        ways = [asyncio.create_task(connection.up(client_reader)), asyncio.create_task(connection.down(server_reader))]
        self._tasks.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for writer in (client_writer, server_writer):
            writer.transport.abort()
        await asyncio.gather(*ways, return_exceptions=True)
        self._tasks.difference_update(ways)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()


class _Connection:
    def __init__(self, cut: Cut, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._cut, self._client, self._server = cut, client, server
        self._is_cutting = False
        self._sent = b""

    async def up(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self._sent += data
            is_commit, sent = b"COMMIT" in data, self._sent
            if is_commit:
                self._sent = b""
            if is_commit and self._cut.cuts and self._cut.after in sent:
                self._cut.cuts -= 1
                if self._cut.swallows:
                    self._cut.swallows -= 1
                    self._cut.done += 1
                    return
                self._is_cutting = True
            self._server.write(data)

    async def down(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            if self._is_cutting:  # the answer: so it is committed
                self._cut.is_closed = self._cut.closes
                self._cut.done += 1
                if self._cut.keeps_open:
                    await asyncio.Event().wait()
                return
            self._client.write(data)


@asynccontextmanager
async def cut_in_front_of(url: str) -> AsyncIterator[tuple[Cut, str]]:
    """The proxy, and the database URL that leads through it."""
    parts = urlsplit(url)
    cut = Cut(parts.hostname or "", parts.port or 5432)
    server = await asyncio.start_server(cut.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield cut, url.replace(f":{parts.port}", f":{port}")
    finally:
        server.close()
        cut.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await server.wait_closed()

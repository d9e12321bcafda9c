"""A TCP proxy between clients and a broker's nodes, which can lose, delay and cut what goes through it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import SplitResult, urlsplit

from shared.amqp_url import node_urls

CHUNK_BYTES = 64 * 1024
SLOW_CHUNK_BYTES = 512


class Proxy:
    """Passes bytes on, delayed, lost or cut as its attributes say."""

    def __init__(self) -> None:
        self._links: set[_Link] = set()
        self.chunk_delay_seconds = 0.0
        self.requests_flow = True
        self.answers_flow = True
        self.reset_after_bytes: int | None = None
        self.lost_port: int | None = None
        """Of a node to which, and from which, everything is lost."""
        self.lost_bytes = 0
        """How many bytes were lost so far, in both directions."""
        self.resets = 0

    def hold_answers(self) -> None:
        """What the broker sends (such as confirms) is lost from now on; what the clients send still arrives."""
        self.answers_flow = False

    def blackhole(self) -> None:
        """Everything is lost from now on, in both directions; the connections stay open."""
        self.answers_flow = self.requests_flow = False

    def cut_after(self, size: int) -> None:
        """A connection is reset after so many more bytes of the clients."""
        self.reset_after_bytes = size

    def slow_down(self, chunk_delay_seconds: float) -> None:
        """Each piece of 512 bytes takes so long from now on."""
        self.chunk_delay_seconds = chunk_delay_seconds

    def heal(self) -> None:
        """Bytes flow again. A connection that has lost some is reset, as happens in the end on a real wire."""
        self.answers_flow = self.requests_flow = True
        self.lost_port = None
        self.chunk_delay_seconds, self.reset_after_bytes = 0.0, None
        for link in [link for link in self._links if link.has_lost_bytes]:
            link.reset()

    def close(self) -> None:
        for link in list(self._links):
            link.reset()

    async def serve(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to a node, until either side closes it."""
        try:
            broker_reader, broker_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(self, port, writer, broker_writer)
        self._links.add(link)
        await asyncio.gather(link.requests(reader), link.answers(broker_reader))
        self._links.discard(link)


class _Link:
    def __init__(self, proxy: Proxy, port: int, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self._proxy, self._port, self._client, self._broker = proxy, port, client, broker
        self.has_lost_bytes = False

    def reset(self) -> None:
        self._client.transport.abort()
        self._broker.transport.abort()

    async def requests(self, reader: asyncio.StreamReader) -> None:
        async for data in self._read(reader):
            limit = self._proxy.reset_after_bytes
            if self._is_lost or not self._proxy.requests_flow:
                self._lose(data)
            elif limit is not None and len(data) >= limit:
                self._broker.write(data[:limit])
                self._proxy.reset_after_bytes = None
                self._proxy.resets += 1
                break
            else:
                self._proxy.reset_after_bytes = None if limit is None else limit - len(data)
                self._broker.write(data)
        self.reset()

    async def answers(self, reader: asyncio.StreamReader) -> None:
        async for data in self._read(reader):
            if self._is_lost or not self._proxy.answers_flow:
                self._lose(data)
            else:
                self._client.write(data)
        self.reset()

    @property
    def _is_lost(self) -> bool:
        return self._proxy.lost_port == self._port

    def _lose(self, data: bytes) -> None:
        self.has_lost_bytes = True
        self._proxy.lost_bytes += len(data)

    async def _read(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                while data:  # a read that was under way when the link became slow brings more than a slow chunk
                    delay_seconds = self._proxy.chunk_delay_seconds
                    size = SLOW_CHUNK_BYTES if delay_seconds else CHUNK_BYTES
                    piece, data = data[:size], data[size:]
                    await asyncio.sleep(delay_seconds)
                    yield piece


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the node, or the nodes, of an AMQP URL, and the URL that leads through it."""
    proxy = Proxy()
    async with AsyncExitStack() as stack:
        stack.callback(proxy.close)
        parts = [urlsplit(each) for each in node_urls(url)]
        yield proxy, ",".join([await _way_through(stack, proxy, each) for each in parts])


async def _way_through(stack: AsyncExitStack, proxy: Proxy, node: SplitResult) -> str:
    serve = partial(proxy.serve, node.hostname or "127.0.0.1", node.port or 5672)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    credentials = node.netloc.rpartition("@")[0]
    return node._replace(netloc=f"{credentials}@127.0.0.1:{server.sockets[0].getsockname()[1]}").geturl()

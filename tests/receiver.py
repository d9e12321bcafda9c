"""An HTTP receiver on a raw socket, so that a test decides each of its answers; for webhooks and for Apprise."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support import eventually

SILENCE, HANG_UP, TRICKLE = "never answers", "hangs up", "answers a byte at a time"


@dataclass(frozen=True)
class Request:
    """`target`: path and query as they were sent."""

    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """`first`: answers to be given first, in turn; `answer`: to all others. An answer is a status, `; ` and headers, or
    one of the habits above.
    """

    answer: str = "200 OK"
    first: list[str] = field(default_factory=list)
    body: bytes = b"thanks"
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    address: str = ""
    conversations: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.conversations.add(task := asyncio.create_task(self._converse(reader, writer)))
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await task
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.conversations.remove(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.requests.append(await _request(reader))
            answer = self.first.pop(0) if self.first else self.answer
            if answer == HANG_UP:
                return
            if answer == SILENCE:
                await asyncio.Event().wait()
            while answer == TRICKLE:
                writer.write(b"H")
                await asyncio.sleep(0.1)
            status, *headers = answer.split("; ")
            head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(self.body)}", *headers, "", ""])
            writer.write(head.encode() + self.body)
            await writer.drain()


async def _request(reader: asyncio.StreamReader) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    return Request(first.split(" ")[1], headers, body)


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """It listens on the loopback address, `host:port`, while the block runs."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.converse, "127.0.0.1", port)
    receiver.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()
        for conversation in list(receiver.conversations):
            conversation.cancel()
        await eventually(lambda: not receiver.conversations, expecting="every connection to be closed")

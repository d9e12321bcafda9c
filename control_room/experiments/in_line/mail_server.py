"""A mail server that can be slow, and down. It takes every mail, and keeps who got one."""

import asyncio
from typing import Self

HELLO, OK, GO_ON, BYE = b"220 mail\r\n", b"250 ok\r\n", b"354 go on\r\n", b"221 bye\r\n"


class MailServer:
    """On a port that stays the same, any free one if 0. `seconds`: how long it takes for a mail."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.seconds = 0.0
        self.recipients: list[str] = []
        """Of the mails that it has taken, in turn."""
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Its connections end, and new ones are refused."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await self._take_mails(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone, or this server is down
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _take_mails(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        recipient = ""
        while line := (await reader.readline()).decode(errors="replace").strip():
            command = line.upper()
            if command == "QUIT":
                writer.write(BYE)
                return
            if command.startswith("RCPT TO:"):
                recipient = line.partition("<")[2].partition(">")[0]
            if command == "DATA":
                writer.write(GO_ON)
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(self.seconds)
                self.recipients.append(recipient)
            writer.write(OK)
            await writer.drain()

"""A mail server that takes its time, and keeps nothing: just enough of SMTP (RFC 5321) to be sent to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

GREETING = b"220 a slow mail server\r\n"
ANSWERS = {
    b"EHLO": b"250 here\r\n",
    b"HELO": b"250 here\r\n",
    b"MAIL": b"250 go on\r\n",
    b"RCPT": b"250 go on\r\n",
    b"RSET": b"250 done\r\n",
    b"NOOP": b"250 done\r\n",
}
UNKNOWN = b"502 not here\r\n"


@asynccontextmanager
async def slow_mail_server(seconds: float) -> AsyncIterator[str]:
    """The URL of a server on the loopback address that takes `seconds` for each mail, while the block runs."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):
                await _converse(reader, writer, seconds)
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    writer.write(GREETING)
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"QUIT":
            writer.write(b"221 bye\r\n")
            return
        if verb == b"DATA":
            await _take_mail(reader, writer, seconds)
        else:
            writer.write(ANSWERS.get(verb, UNKNOWN))


async def _take_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    writer.write(b"354 end with a dot\r\n")
    while (line := await reader.readline()) != b".\r\n":
        if not line:
            raise EOFError
    await asyncio.sleep(seconds)
    writer.write(b"250 taken\r\n")

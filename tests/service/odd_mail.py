"""Mail servers on raw sockets, so that a test decides each of their answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

SILENCE = "never answers"
HANG_UP = "hangs up"

USUAL = {
    "GREETING": "220 odd.example",
    "EHLO": "250 odd.example",
    "HELO": "250 odd.example",
    "STARTTLS": "220 go ahead",
    "AUTH": "235 welcome",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    "DOT": "250 taken",
    "QUIT": "221 bye",
}


@dataclass
class OddServer:
    """By phase: `first`, answers to be given first, in turn; then `answers` in place of the usual one; `seconds`, how
    long an answer takes. `tls` is for STARTTLS. `mails`: what was received up to the final dot.
    """

    answers: dict[str, str] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    mails: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer("GREETING", writer)
        while line := await reader.readline():
            self.commands.append(line.decode("latin-1").strip())
            verb = line[:8].upper().split()[0].decode("latin-1")
            if verb == "RCPT":
                self.recipients.append(line.decode("latin-1").strip()[len("RCPT TO:<") : -1])
            answer = await self._answer(verb, writer)
            if verb == "STARTTLS" and answer.startswith("220") and self.tls is not None:
                await writer.start_tls(self.tls)
            elif verb == "DATA" and answer.startswith("3"):
                if self.answers.get("TEXT") == SILENCE:  # it does not even read
                    await asyncio.Event().wait()
                self.mails.append(await _mail(reader))
                await self._answer("DOT", writer)
            elif verb == "QUIT":
                return

    async def _answer(self, phase: str, writer: asyncio.StreamWriter) -> str:
        first = self.first.get(phase)
        answer = first.pop(0) if first else self.answers.get(phase, USUAL.get(phase, "502 what?"))
        await asyncio.sleep(self.seconds.get(phase, 0))
        if answer == HANG_UP:
            raise EOFError
        if answer == SILENCE:
            await asyncio.Event().wait()
        writer.write(answer.encode("utf-8", "surrogateescape") + b"\r\n")
        await writer.drain()
        return answer


async def _mail(reader: asyncio.StreamReader) -> bytes:
    mail = b""
    while (line := await reader.readline()) != b".\r\n":
        if not line:
            raise EOFError
        mail += line[1:] if line.startswith(b".") else line
    return mail


@asynccontextmanager
async def odd_server(
    answers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[OddServer]:
    """It listens on the loopback address while the block runs. With `tls` all of it is encrypted."""
    odd = OddServer(dict(answers or {}))
    server = await asyncio.start_server(odd.converse, "127.0.0.1", port, ssl=tls)
    odd.url = f"{'smtps' if tls else 'smtp'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    tasks = asyncio.all_tasks()
    try:
        yield odd
    finally:
        server.close()
        for task in asyncio.all_tasks() - tasks:  # the conversations that are still silent
            task.cancel()

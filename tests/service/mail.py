"""A mail server on a raw socket, so that a test decides each of its answers."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message

SILENCE = "never answers"
HANG_UP = "hangs up"

USUAL = {
    "GREETING": "220 mail.example",
    "EHLO": "250 mail.example",
    "HELO": "250 mail.example",
    "STARTTLS": "220 go ahead",
    "AUTH": "235 welcome",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    "DOT": "250 taken",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}
COMMAND = re.compile(r"(EHLO|HELO|AUTH) \S+.*|MAIL FROM:<\S+@\S+>|RCPT TO:<(\S+@\S+)>|(DATA|RSET|QUIT|STARTTLS)")


@dataclass
class MailServer:
    """By phase: `first`, answers to be given first, in turn; then `answers` in place of the usual one; `seconds`, how
    long an answer takes. `refusals`: the first answers to RCPT by recipient. `is_silent`: RCPT is not answered yet.
    `allows`: how many connections at once, if not any number; `refused`: how many were too many.

    `tls` is for STARTTLS. `mails`: what was received up to the final dot. `recipients`: all of RCPT, in turn. Answers
    may hold bytes that are not UTF-8, as surrogate escapes.
    """

    answers: dict[str, str] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    is_silent: bool = False
    allows: int = 0
    refused: int = 0
    tls: ssl.SSLContext | None = None
    mails: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    url: str = ""
    conversations: "set[asyncio.Task[None]]" = field(default_factory=set)
    most_connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def reset(self) -> None:
        """As new, and without a connection."""
        for conversation in self.conversations:  # also those that are silent, and would not see a connection end
            conversation.cancel()
        vars(self).update(vars(MailServer(url=self.url, conversations=self.conversations, writers=self.writers)))

    def received(self, recipient: str) -> list[Message]:
        return [mail for mail in map(message_from_bytes, self.mails) if mail["To"] == recipient]

    def hang_up(self, last_words: str = "") -> None:
        """Close every connection, whatever it is at."""
        for writer in self.writers:
            if last_words:
                writer.write(f"{last_words}\r\n".encode())
            writer.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        self.most_connections = max(self.most_connections, len(self.writers))
        serve = self._refuse if 0 < self.allows < len(self.writers) else self._converse
        self.conversations.add(task := asyncio.create_task(serve(reader, writer)))
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await task
        self.conversations.remove(task)
        self.writers.remove(writer)
        writer.close()

    async def _refuse(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.refused += 1
        writer.write(b"421 4.7.0 too many connections\r\n")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer("GREETING", writer)
        while line := await reader.readline():
            command = line.decode("latin-1").removesuffix("\r\n")
            self.commands.append(command)
            parts, verb = COMMAND.fullmatch(command), command.partition(" ")[0]
            if parts is None:
                writer.write(b"501 no command\r\n")
                continue
            if recipient := parts[2]:
                self.recipients.append(recipient)
            answer = await self._answer(verb, writer, self.refusals.get(recipient))
            if verb == "STARTTLS" and answer.startswith("220") and self.tls is not None:
                await writer.start_tls(self.tls)
            elif verb == "DATA" and answer.startswith("3"):
                if self.answers.get("TEXT") == SILENCE:  # it does not even read
                    await asyncio.Event().wait()
                self.mails.append(await _mail(reader))
                await self._answer("DOT", writer)
            elif verb == "QUIT":
                return

    async def _answer(self, phase: str, writer: asyncio.StreamWriter, first: list[str] | None = None) -> str:
        first = first or self.first.get(phase)
        while self.is_silent and phase == "RCPT":  # noqa: ASYNC110 - a test changes it
            await asyncio.sleep(0.05)
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
async def mail_server(
    answers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[MailServer]:
    """It listens on the loopback address while the block runs. With `tls` all of it is encrypted."""
    mail = MailServer(dict(answers or {}))
    server = await asyncio.start_server(mail.converse, "127.0.0.1", port, ssl=tls)
    mail.url = f"{'smtps' if tls else 'smtp'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield mail
    finally:
        server.close()
        for conversation in mail.conversations:  # those that are still silent
            conversation.cancel()

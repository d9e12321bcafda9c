"""A mail server that keeps the mails it gets, and refuses those that a test names."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller

from control_room.launcher.ports import free_ports


class MailServer:
    """A handler for aiosmtpd, which runs it on a thread of its own.

    `answers`: refusals of the next mails to a recipient, in turn; bytes that are not UTF-8 are surrogate escapes.
    `silent`: recipients whose mails are not answered. `asked`: the recipient of each mail, answered or not.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[str]] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self._mails: list[tuple[str, Message]] = []

    def received(self, recipient: str) -> list[Message]:
        return [mail for to, mail in self._mails if to == recipient]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str | bytes:
        self.asked.append(address)
        while address in self.silent:  # noqa: ASYNC110 - another thread changes it
            await asyncio.sleep(0.05)
        answers = self.answers.get(address, [])
        if answers:
            return answers.pop(0).encode("utf-8", "surrogateescape")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self._mails += [(recipient, message_from_bytes(envelope.content)) for recipient in envelope.rcpt_tos]
        return "250 OK"


@contextmanager
def serving(server: MailServer) -> Iterator[MailServer]:
    """The server, on a free port of the loopback address, until the block ends."""
    controller = Controller(server, hostname="127.0.0.1", port=free_ports(1)[0])
    controller.start()
    server.url = f"smtp://127.0.0.1:{controller.port}"
    try:
        yield server
    finally:
        controller.stop()

"""A mail server that takes its time: the kitchen must not wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from control_room.experiments.client import notified_after_seconds
from control_room.experiments.scenarios.scenario import Outcome, Playing, Scenario, Setting

MAIL_SECONDS = 2.0
KITCHEN_WITHIN_SECONDS = 5.0
NOTIFIED_WITHIN_SECONDS = 120.0


async def play(playing: Playing) -> Outcome:
    """A real SMTP server that answers each mail after two seconds."""
    client, say, count = playing.client, playing.say, playing.chosen["orders"]
    if (mail := playing.target.mail) is None:
        raise ValueError("no mail route")
    async with slow_mail_server(MAIL_SECONDS) as url:
        say("the notification service starts again, with a slow mail server")
        try:
            await mail.lead_to(url)
            await client.wait_until_ready(30)
            ids = [placed.order_id for placed in await playing.place(["tok_visa"] * count)]
            orders = await client.orders(
                ids, _is_notified, NOTIFIED_WITHIN_SECONDS, lambda done: say(f"{done} of {count} notified")
            )
        finally:
            say("the usual mail server comes back")
            await mail.lead_to("")
        await client.wait_until_ready(30)
    kitchen, email = (
        max(notified_after_seconds(order, channel) for order in orders.values()) for channel in ("restaurant", "email")
    )
    return Outcome(
        expected=f"The kitchen has every ticket within {KITCHEN_WITHIN_SECONDS:.0f} s; only the emails are late.",
        seen=f"the kitchen's last ticket came after {kitchen:.1f} s, the last email after {email:.1f} s",
        held=kitchen < KITCHEN_WITHIN_SECONDS < email,
    )


def _is_notified(order: dict[str, Any]) -> bool:
    return {"email", "restaurant"} <= {each["channel"] for each in order["notifications"]}


@asynccontextmanager
async def slow_mail_server(seconds: float) -> AsyncIterator[str]:
    """The URL of a server that takes `seconds` for each mail and discards it: as much of SMTP (RFC 5321) as needed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError):
                await _converse(reader, writer, seconds)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    writer.write(b"220 a slow mail server\r\n")
    while line := await reader.readline():
        match line[:4].upper():
            case b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            case b"DATA":
                writer.write(b"354 end with a dot\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(seconds)
                writer.write(b"250 taken\r\n")
            case b"EHLO" | b"HELO" | b"MAIL" | b"RCPT" | b"RSET" | b"NOOP":
                writer.write(b"250 done\r\n")
            case _:
                writer.write(b"502 unknown command\r\n")


SCENARIO = Scenario(
    name="slow-mail",
    title="A slow mail server",
    look_for="A mail server takes two seconds for each email. Emails pile up in their own queue, and kitchen tickets "
    "go out as fast as ever.",
    play=play,
    settings=(Setting("orders", "orders", 40, 30, 300),),
    needs=("mail",),
    limit_seconds=240,
)

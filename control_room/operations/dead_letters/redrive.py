"""Redrives dead letters: sends them back to the queue that they were for.

Each is published and confirmed before it is removed from the dead letters. A crash in between leaves both, and
consumers do the same work only once: so a redrive may be interrupted and repeated.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.parked import Held, dead_letters, inspect
from control_room.operations.dead_letters.selection import Selection, selected
from shared.messaging import message as headers
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher

MOST_A_BATCH = 100
CONNECT_TIMEOUT_SECONDS = 10.0


async def redrive(url: str, connection: Connection, selection: Selection, rate: float, *, force: bool = False) -> int:
    """Send back the selected dead letters, at most `rate` a second; returns how many there were.

    Raises NotDone, before anything is sent if a queue has no consumer or else half-way, or BrokerUnavailable.
    """
    queues = [queue for queue in selection.queues if await _has_any(connection, replace(selection, queue=queue))]
    if not force:
        for queue in queues:
            if not (await inspect(connection, queue)).consumers:
                raise NotDone(
                    f"{queue} has no consumer now: {queue.partition('.')[0]} does not run, or has lost its connection. "
                    "Nothing was sent back. Start it first, or use --force: then the messages wait in the queue."
                )
    sender = _Sender(url, rate)
    try:
        await sender.start()
        for queue in queues:
            await _redrive_queue(sender, connection, queue, selection)
    finally:
        await sender.stop()
    return sender.sent


async def _has_any(connection: Connection, selection: Selection) -> bool:
    async with aclosing(selected(connection, selection)) as found:
        return await anext(found, None) is not None


async def _redrive_queue(sender: "_Sender", connection: Connection, queue: str, selection: Selection) -> None:
    batch: list[Held] = []
    async with dead_letters(connection, queue) as found:
        async for held in found:
            if held.dead_letter in selection:
                batch.append(held)
            if len(batch) == sender.batch:
                await sender.send(batch)
                batch.clear()
        await sender.send(batch)


class _Sender:
    """Publishes batches at an even rate, and removes from the dead letters what the broker has confirmed."""

    def __init__(self, url: str, rate: float) -> None:
        self._publisher = Publisher(url, "order-rail redrive")
        self._rate = rate
        # A tenth of a second's messages: a low rate goes one by one, and a high one does not wait for each confirm.
        self.batch = max(1, min(MOST_A_BATCH, int(rate / 10)))
        self.sent = 0
        self._started_at = 0.0

    async def start(self) -> None:
        await self._publisher.start()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._publisher.connected()
        except TimeoutError:
            raise BrokerUnavailable(self._publisher.problem() or "no connection to publish on") from None
        self._started_at = asyncio.get_running_loop().time()

    async def send(self, batch: Sequence[Held]) -> None:
        errors = await self._publisher.publish_all([redriven(held.dead_letter) for held in batch])
        for held, error in zip(batch, errors, strict=True):
            if error is None:
                held.take()
                self.sent += 1
        if failures := [error for error in errors if error is not None]:
            why = str(failures[0]) or type(failures[0]).__name__
            raise NotDone(
                f"stopped after {self.sent} messages: {why}. The others are still dead letters; run it again."
            )
        early = self._started_at + self.sent / self._rate - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, early))

    async def stop(self) -> None:
        await self._publisher.stop()


def redriven(dead_letter: DeadLetter) -> Message:
    """The message as it goes back: at attempt 1 again; its headers say how often it was redriven, and when."""
    first_seen = dead_letter.message.headers.get(headers.FIRST_SEEN)
    old = headers.keys(dead_letter.message.headers)
    if isinstance(first_seen, str):
        old[headers.FIRST_SEEN] = first_seen
    new = {
        headers.ATTEMPT: 1,
        headers.REDRIVEN_AT: headers.header_time(),
        headers.REDRIVE_COUNT: dead_letter.redrives + 1,
    }
    return replace(dead_letter.message, exchange="", routing_key=dead_letter.queue, headers={**old, **new})

"""Removes dead letters on purpose, and keeps each of them, with the reason, in a journal on disk."""

import base64
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from control_room.operations.dead_letters.letter import DeadLetter
from control_room.operations.dead_letters.parked import Held, dead_letters
from control_room.operations.dead_letters.selection import Selection
from shared.messaging.connection import Connection


class NotDiscarded(Exception):
    """Nothing was removed; the message says why."""


async def discard(connection: Connection, selection: Selection, because: str, journal: Path) -> list[DeadLetter]:
    """Write the selected dead letters to the journal, durably, then remove them; those that were removed.

    Several under one id are copies of one message, and go together, but only within one queue: for different queues
    the same message means different work. Raises NotDiscarded, or BrokerUnavailable.
    """
    async with AsyncExitStack() as stack:
        found: list[Held] = []
        for queue in selection.queues:
            letters = await stack.enter_async_context(dead_letters(connection, queue))
            found += [held async for held in letters if held.letter in selection]
        _check(found, selection)
        _write(journal, [entry(held.letter, because) for held in found])
        for held in found:
            held.take()
        return [held.letter for held in found]


def _check(found: Sequence[Held], selection: Selection) -> None:
    if not found:
        raise NotDiscarded(f"there is no dead letter {selection.id}")
    queues = sorted({held.letter.queue for held in found})
    if len(queues) > 1:
        raise NotDiscarded(f"{selection.id} is a dead letter of {' and of '.join(queues)}: say which with --queue")


def _write(journal: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Appended and on disk when this returns. Raises NotDiscarded."""
    text = "".join(json.dumps(each, default=str, ensure_ascii=False) + "\n" for each in entries)
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        is_new = not journal.exists()
        with journal.open("a", encoding="utf-8") as file:
            journal.chmod(0o600)  # customers' data
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_directory(journal.parent)
    except OSError as error:
        raise NotDiscarded(f"the journal {journal} can't be written, so nothing was removed: {error}") from error


def _sync_directory(directory: Path) -> None:
    """A new file's name is only durable once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entry(letter: DeadLetter, because: str) -> dict[str, Any]:
    """A line of the journal: the whole message, and who it was about."""
    return {
        "discarded_at": datetime.now(UTC).isoformat(),
        "because": because,
        "id": letter.id,
        "queue": letter.queue,
        "order_id": (letter.order_id if letter.is_event else None),
        "reason": letter.reason,
        "message": whole(letter),
    }


def whole(letter: DeadLetter) -> dict[str, Any]:
    """Everything about a message: its properties, headers and body (base64 where it is no text)."""
    message = letter.message
    properties = ("message_id", "type", "app_id", "timestamp", "content_type")
    return {
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        **{name: getattr(message, name) for name in properties},
        "headers": dict(message.headers),
        **_body(message.body),
    }


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}

"""Removes dead letters on purpose, after writing each, with the reason, to a journal on disk."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.parked import Held, dead_letters
from control_room.operations.dead_letters.selection import Selection
from control_room.operations.durable import to_disk
from shared.ids import first_id
from shared.messaging.connection import Connection


async def discard(connection: Connection, selection: Selection, because: str, journal: Path) -> list[DeadLetter]:
    """Write the selected dead letters to the journal, durably, then remove them; returns those that were removed.

    Several with one id in one queue are copies of one message and go together. In different queues the same message
    means different work. Raises NotDone, or BrokerUnavailable.
    """
    async with AsyncExitStack() as stack:
        found: list[Held] = []
        for queue in selection.queues:
            parked = await stack.enter_async_context(dead_letters(connection, queue))
            found += [held async for held in parked if held.dead_letter in selection]
        if not found:
            raise NotDone(f"there is no dead letter {selection.id}")
        if len(queues := sorted({held.dead_letter.queue for held in found})) > 1:
            raise NotDone(f"{selection.id} is a dead letter of {' and of '.join(queues)}: say which with --queue")
        write(journal, [entry(held.dead_letter, because) for held in found])
        for held in found:
            held.take()
        return [held.dead_letter for held in found]


def entry(dead_letter: DeadLetter, because: str) -> dict[str, Any]:
    """A line of the journal."""
    return {
        "discarded_at": datetime.now(UTC).isoformat(),
        "because": because,
        "id": dead_letter.id,
        "queue": dead_letter.queue,
        "order_id": dead_letter.event_order_id,
        "reason": dead_letter.reason,
        "message": dead_letter.message_as_json(),
    }


def discarded(journal: Path, order_id: str) -> list[dict[str, Any]]:
    """The lines about a subject. A last line without an end was never finished. Raises OSError, or ValueError."""
    if not journal.exists():
        return []
    with journal.open(encoding="utf-8") as file:
        entries = [json.loads(line) for line in file if order_id in line and line.endswith("\n")]
    return [each for each in entries if each["order_id"] == order_id]


def write(journal: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Append the entries; they are on disk when this returns. Raises NotDone."""
    text = "".join(json.dumps(each, default=str, ensure_ascii=False) + "\n" for each in entries)
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        is_new = not journal.exists()
        with _locked(journal), journal.open("a", encoding="utf-8") as file:
            journal.chmod(0o600)  # people's data
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            to_disk(journal.parent)
    except OSError as error:
        raise NotDone(f"the journal {journal} can't be written, so nothing was removed: {error.strerror}") from error


def forget(journal: Path, before: datetime) -> int:
    """Remove the entries about subjects that began before, and those about none that are older themselves.

    Returns how many. Raises NotDone; then the journal is as it was.
    """
    try:
        if not journal.exists():
            return 0
        with _locked(journal):
            return _rewrite(journal, before)
    except OSError as error:
        raise NotDone(
            f"the journal {journal} can't be written, so nothing was removed from it: {error.strerror}"
        ) from error


def _rewrite(journal: Path, before: datetime) -> int:
    new, removed = journal.with_name(f"{journal.name}.new"), 0
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    with journal.open(encoding="utf-8") as old, new.open("w", encoding="utf-8") as file:
        for line in old:
            if _is_older(line, before):
                removed += 1
            else:
                file.write(line)
        file.flush()
        os.fsync(file.fileno())
    new.replace(journal) if removed else new.unlink()
    to_disk(journal.parent)
    return removed


def _is_older(line: str, before: datetime) -> bool:
    """Not of a line that can't be read: somebody should look at it."""
    try:
        entry = json.loads(line)
        if entry["order_id"]:
            return bool(entry["order_id"] < first_id(before))
        return datetime.fromisoformat(entry["discarded_at"]) < before
    except (ValueError, KeyError, TypeError):
        return False


@contextmanager
def _locked(journal: Path) -> Iterator[None]:
    """One process at a time changes the journal. The lock ends with the process, however that ends."""
    with journal.with_name(f"{journal.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""The latest publishes and deliveries of this process, in memory, for the history of a subject.

Nothing depends on it. For speed a note is one tuple, and the subject's id is searched for in the body without decoding.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from shared.events import BATCH_CONTENT_TYPE
from shared.messaging.message import ATTEMPT, Delivery, Message
from shared.messaging.retry import Ack, Outcome, Retry

MAX_NOTES = 20_000
SUBJECT = b'"subject":"'
ID_LENGTH = 36


class Note(NamedTuple):
    """`at` is in seconds since 1970, `act` "published" or "handled", `place` the exchange, the queue or the HTTP call.

    `outcome` of a publish: confirmed, or why not; of a delivery: done, duplicate, retry or dead letter.
    """

    at: float
    act: str
    place: str
    type: str | None
    message_id: str | None
    order_id: bytes
    attempt: int
    outcome: str
    detail: str
    redelivered: bool


_notes: deque[Note] = deque(maxlen=MAX_NOTES)
_listeners: list[Callable[[Note], None]] = []
_began_at = time.time()


def listen(listener: Callable[[Note], None]) -> None:
    """Call it with each note from now on."""
    _listeners.append(listener)


def note_published(message: Message, outcome: str) -> None:
    """The broker has confirmed or refused a message, or its answer will never come. No copies for the stream."""
    if message.content_type == BATCH_CONTENT_TYPE:
        return
    _keep(
        Note(time.time(), "published", message.exchange or message.routing_key, message.type, message.message_id,
             _order_id(message.body), message.headers.get(ATTEMPT, 1), outcome, "", False)
    )  # fmt: skip


def note_handled(queue: str, delivery: Delivery, outcome: Outcome, *, settled: bool, at: float | None = None) -> None:
    """A delivery has an outcome; it is not `settled` if its channel closed first, so that the broker redelivers it.

    `at`: when that was decided, if not now.
    """
    message = delivery.message
    name, detail = _described(outcome)
    _keep(
        Note(at or time.time(), "handled", queue, message.type, message.message_id, _order_id(message.body),
             delivery.attempt, name, detail if settled else f"the connection was lost: it comes again. {detail}",
             delivery.redelivered)
    )  # fmt: skip


def note_replayed(call: str, order_id: str) -> None:
    """A request to an HTTP call, such as `POST /parcels`, was sent again, and had no effect."""
    _keep(Note(time.time(), "handled", call, None, None, order_id.encode(), 1, "duplicate", "", False))


def about(order_id: str) -> list[Note]:
    """The notes about a subject, oldest first."""
    encoded = order_id.encode()
    return [note for note in _notes if note.order_id == encoded]


def known_since() -> float:
    """There are no notes from before this time: the start of this process, or the time of the oldest note."""
    return _notes[0].at if len(_notes) == MAX_NOTES else _began_at


def _keep(note: Note) -> None:
    _notes.append(note)
    for listener in _listeners:
        listener(note)


def _described(outcome: Outcome) -> tuple[str, str]:
    if isinstance(outcome, Ack):
        return "duplicate" if outcome.duplicate else "done", ""
    if isinstance(outcome, Retry):
        when = f"in {outcome.delay_seconds:g} s" if outcome.delay_seconds else "at once"
        return "retry", f"{when}: {outcome.error}"
    return "dead letter", f"{outcome.reason}: {outcome.error}"


def _order_id(body: bytes) -> bytes:
    """The subject, as our own services write it; empty if there is none."""
    at = body.find(SUBJECT)
    return b"" if at < 0 else body[at + len(SUBJECT) : at + len(SUBJECT) + ID_LENGTH]

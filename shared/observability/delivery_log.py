"""What this process has lately published and handled, for those who ask how an order went.

Kept in memory, the latest first to stay: it is there to be looked at, and nothing depends on it. A note costs a
tuple, and a look for the order's id in the body; nothing is decoded for it.
"""

import time
from collections import deque
from typing import NamedTuple

from shared.messaging.message import ATTEMPT, Delivery, Message
from shared.messaging.retry import Ack, Outcome, Retry

KEPT = 20_000
SUBJECT = b'"subject":"'
ID_LENGTH = 36


class Note(NamedTuple):
    """`act` is published or handled, `place` the queue, or the exchange that it was published to; `at` is in seconds
    since 1970. `outcome` of a publish: confirmed, or why not; of a delivery: done, duplicate, retry, dead letter."""

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


_notes: deque[Note] = deque(maxlen=KEPT)
_began_at = time.time()


def note_published(message: Message, outcome: str) -> None:
    """The broker has answered for a message, or never will."""
    _notes.append(
        Note(time.time(), "published", message.exchange or message.routing_key, message.type, message.message_id,
             _order_id(message.body), message.headers.get(ATTEMPT, 1), outcome, "", False)
    )  # fmt: skip


def note_handled(queue: str, delivery: Delivery, outcome: Outcome, *, settled: bool) -> None:
    """A delivery was decided; not `settled` if its channel closed before, so that it comes again."""
    message = delivery.message
    word, detail = _told(outcome)
    _notes.append(
        Note(time.time(), "handled", queue, message.type, message.message_id, _order_id(message.body),
             delivery.attempt, word, detail if settled else f"the connection was lost: it comes again. {detail}",
             delivery.redelivered)
    )  # fmt: skip


def about(order_id: str) -> list[Note]:
    """What is known of an order, oldest first."""
    wanted = order_id.encode()
    return [note for note in _notes if note.order_id == wanted]


def known_since() -> float:
    """Nothing is known of what was before: when this process began, or the oldest note was made that is still kept."""
    return _notes[0].at if len(_notes) == KEPT else _began_at


def _told(outcome: Outcome) -> tuple[str, str]:
    if isinstance(outcome, Ack):
        return "duplicate" if outcome.duplicate else "done", ""
    if isinstance(outcome, Retry):
        return "retry", f"in {outcome.delay_seconds:g} s: {outcome.error}"
    return "dead letter", f"{outcome.reason}: {outcome.error}"


def _order_id(body: bytes) -> bytes:
    """Where our own writers put it; empty where it is not."""
    at = body.find(SUBJECT)
    return b"" if at < 0 else body[at + len(SUBJECT) : at + len(SUBJECT) + ID_LENGTH]

"""A dead letter: what was set aside, where it was going, and why. No I/O."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from shared.events import UnreadableEvent, decode
from shared.ids import canonical
from shared.messaging import message as headers
from shared.messaging.message import Delivery, Message

# A body is read for its order's id up to here; what is longer is no event of ours.
READABLE_BYTES = 256 * 1024
X_DEATH = "x-death"
"""The broker's own header: a list of its reasons for moving a message, the latest first."""
BROKERS_REASONS = {
    "delivery_limit": "it was returned to its queue too often: its consumer died or gave up each time",
    "expired": "it waited longer than its queue allows",
    "maxlen": "its queue was full",
    "rejected": "its consumer rejected it",
}


@dataclass(frozen=True)
class DeadLetter:
    """A message parked for `queue`. `id` names it on the command line and stays the same as long as it is parked."""

    queue: str
    message: Message
    undecodable: str | None = None

    @classmethod
    def of(cls, queue: str, delivery: Delivery) -> "DeadLetter":
        return cls(queue, delivery.message, delivery.undecodable)

    @cached_property
    def id(self) -> str:
        """The message's id. One without (poison) is called after its queue, its body and when it was first seen."""
        if self.message.message_id:
            return printable(self.message.message_id)
        what = "\0".join((self.queue, self._text(headers.FIRST_SEEN), str(self._broker.get("time", "")))).encode()
        return f"poison-{hashlib.sha256(what + self.message.body).hexdigest()[:16]}"

    @property
    def reason(self) -> str:
        """One word or a few joined by dashes; empty where nobody gave one."""
        if reason := self._text(headers.DEAD_LETTER_REASON):
            return reason
        return self._brokers_reason.replace("_", "-") or ("undecodable-properties" if self.undecodable else "")

    @property
    def error(self) -> str:
        """What went wrong, in a sentence."""
        told = self._text(headers.DEAD_LETTER_ERROR) or BROKERS_REASONS.get(self._brokers_reason, "")
        return told or printable(self.undecodable or "")

    @property
    def attempts(self) -> int:
        """How often it was tried since it was first sent, or last redriven."""
        given = self.message.headers.get(headers.DEAD_LETTER_ATTEMPTS, self.message.headers.get(headers.ATTEMPT))
        return given if type(given) is int else 1

    @property
    def parked_at(self) -> datetime | None:
        """When it was set aside."""
        at = self.message.headers.get(headers.DEAD_LETTER_AT) or self._broker.get("time")
        if isinstance(at, str):
            try:
                at = datetime.fromisoformat(at)
            except ValueError:
                return None
        if not isinstance(at, datetime):
            return None
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    @property
    def redrives(self) -> int:
        """How often it has been sent back before."""
        count = self.message.headers.get(headers.REDRIVE_COUNT)
        return count if type(count) is int else 0

    @cached_property
    def order_id(self) -> str | None:
        """The order that the body speaks of, also where the body is no event that we can read; None for poison."""
        if len(self.message.body) > READABLE_BYTES:
            return None
        try:
            subject = json.loads(self.message.body)["subject"]
        except (ValueError, KeyError, TypeError, RecursionError, IndexError):
            return None
        return canonical(subject) if isinstance(subject, str) else None

    @cached_property
    def is_event(self) -> bool:
        """Whether the body is an event of ours, so that the message belongs to an order."""
        try:
            decode(self.message.body)
        except UnreadableEvent:
            return False
        return True

    @property
    def _brokers_reason(self) -> str:
        # Only if our consumer gave none: a message that waited in a retry queue was "expired" there, and is fine.
        return "" if headers.DEAD_LETTER_REASON in self.message.headers else str(self._broker.get("reason", ""))

    @cached_property
    def _broker(self) -> Mapping[str, Any]:
        deaths = self.message.headers.get(X_DEATH)
        latest = deaths[0] if isinstance(deaths, list) and deaths else {}
        return latest if isinstance(latest, Mapping) else {}

    def _text(self, header: str) -> str:
        value = self.message.headers.get(header)
        return printable(value) if isinstance(value, str) else ""


def printable(text: str) -> str:
    """The text in one line, without what could steer a terminal: a stranger may have written it."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)

"""A dead letter: a message that was parked, the queue it was for, and why. No I/O."""

import base64
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
from shared.messaging.message import Message

READABLE_BYTES = 256 * 1024
"""A longer body is no event of ours, and is not searched for its subject."""
X_DEATH = "x-death"
"""The broker's own header: a list of its reasons for moving a message, the latest first."""
ERRORS_BY_BROKER_REASON = {
    "delivery_limit": "it was returned to its queue too often: its consumer died or gave up each time",
    "expired": "it waited longer than its queue allows",
    "maxlen": "its queue was full",
    "rejected": "its consumer rejected it",
}


@dataclass(frozen=True)
class DeadLetter:
    """A message parked for `queue`. `id` names it on the command line and stays the same while it is parked."""

    queue: str
    message: Message
    undecodable: str | None = None

    @cached_property
    def id(self) -> str:
        """The message id; if there is none, a hash of queue, body and the time at which it was first seen."""
        if self.message.message_id:
            return printable(self.message.message_id)
        what = "\0".join((self.queue, self._text(headers.FIRST_SEEN), str(self._death.get("time", "")))).encode()
        return f"poison-{hashlib.sha256(what + self.message.body).hexdigest()[:16]}"

    @property
    def reason(self) -> str:
        """A few words joined by dashes; empty if neither the consumer nor the broker gave one."""
        if reason := self._text(headers.DEAD_LETTER_REASON):
            return reason
        return self._broker_reason.replace("_", "-") or ("undecodable-properties" if self.undecodable else "")

    @property
    def error(self) -> str:
        """What went wrong, in a sentence."""
        error = self._text(headers.DEAD_LETTER_ERROR) or ERRORS_BY_BROKER_REASON.get(self._broker_reason, "")
        return error or printable(self.undecodable or "")

    @property
    def attempts(self) -> int:
        """Attempts since it was first published or last redriven."""
        count = self.message.headers.get(headers.DEAD_LETTER_ATTEMPTS, self.message.headers.get(headers.ATTEMPT))
        return count if type(count) is int else 1

    @property
    def parked_at(self) -> datetime | None:
        """When it became a dead letter; None if that is unknown or unreadable."""
        at = self.message.headers.get(headers.DEAD_LETTER_AT) or self._death.get("time")
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
        """How often it has been redriven before."""
        count = self.message.headers.get(headers.REDRIVE_COUNT)
        return count if type(count) is int else 0

    @cached_property
    def order_id(self) -> str | None:
        """The `subject` of the body, even if the body is no event that we can read; None if that is no id."""
        if len(self.message.body) > READABLE_BYTES:
            return None
        try:
            subject = json.loads(self.message.body)["subject"]
        except (ValueError, KeyError, TypeError, RecursionError, IndexError):
            return None
        return canonical(subject) if isinstance(subject, str) else None

    @cached_property
    def event(self) -> str:
        """The type of its event without the version, such as `parcel.sent`; empty for poison."""
        try:
            return decode(self.message.body).family()
        except UnreadableEvent:
            return ""

    @property
    def event_order_id(self) -> str | None:
        """The subject, if the body is an event of ours; None for poison, which has none."""
        return self.order_id if self.event else None

    @property
    def properties(self) -> dict[str, Any]:
        """Those of the message, and where it was published."""
        names = ("message_id", "type", "app_id", "timestamp", "content_type", "exchange", "routing_key")
        return {name: getattr(self.message, name) for name in names}

    def as_json(self) -> dict[str, Any]:
        """All that is known about it."""
        return {
            "id": self.id,
            "queue": self.queue,
            "cause": self.reason,
            "error": self.error,
            "attempts": self.attempts,
            "parked_at": self.parked_at.isoformat() if self.parked_at else None,
            "order_id": self.order_id,
            "redrives": self.redrives,
            "message": self.message_as_json(),
        }

    def message_as_json(self) -> dict[str, Any]:
        """The whole message: properties, headers and body (base64 if it is not UTF-8)."""
        try:
            body = {"body": self.message.body.decode()}
        except UnicodeDecodeError:
            body = {"body_base64": base64.b64encode(self.message.body).decode()}
        return {**self.properties, "headers": dict(self.message.headers), **body}

    @property
    def _broker_reason(self) -> str:
        """The broker's, unless our consumer gave one: any message that waited in a retry queue has "expired"."""
        return "" if headers.DEAD_LETTER_REASON in self.message.headers else str(self._death.get("reason", ""))

    @cached_property
    def _death(self) -> Mapping[str, Any]:
        deaths = self.message.headers.get(X_DEATH)
        latest = deaths[0] if isinstance(deaths, list) and deaths else {}
        return latest if isinstance(latest, Mapping) else {}

    def _text(self, header: str) -> str:
        value = self.message.headers.get(header)
        return printable(value) if isinstance(value, str) else ""


def printable(text: str) -> str:
    """The text on one line; control characters, with which it could steer a terminal, are escaped."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)

"""A message to publish, a delivery that has arrived, and the names of our own headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.contract import KEY_HEADER
from shared.events import CONTENT_TYPE

ATTEMPT = "attempt"
"""Header: which attempt at handling this is, from 1. Counted by us, since broker versions count differently.

Each try counts, also the second one that follows at once on a first one that failed.
"""
RETRIES = "retries"
"""Header: how often it has been through a retry queue, which decides about the next delay."""
FIRST_SEEN = "first-seen"
"""Header: when a consumer first had it (RFC 3339); kept through retries."""
LAST_ERROR = "last-error"
DEAD_LETTER_REASON = "dead-letter-reason"
DEAD_LETTER_ERROR = "dead-letter-error"
DEAD_LETTER_ATTEMPTS = "dead-letter-attempts"
DEAD_LETTER_QUEUE = "dead-letter-queue"
DEAD_LETTER_AT = "dead-letter-at"
REDRIVEN_AT = "redriven-at"
"""Header: when it was last redriven from the dead letters (RFC 3339); `attempt` started again at 1 then."""
REDRIVE_COUNT = "redrive-count"
KEPT_HEADERS = (FIRST_SEEN, REDRIVEN_AT, REDRIVE_COUNT)
"""Headers that stay with a message through retries, and when it becomes a dead letter; so do those of `keys`."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message, persistent and mandatory. `timestamp` is in seconds since 1970.

    `expires_after_milliseconds`: how long it stays in the queue that it is published to; None: as the queue has it.
    """

    exchange: str
    routing_key: str
    body: bytes
    message_id: str | None = None
    type: str | None = None
    app_id: str | None = None
    timestamp: int | None = None
    content_type: str | None = CONTENT_TYPE
    headers: Mapping[str, Any] = field(default_factory=dict)
    expires_after_milliseconds: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One arrival of a message. `tag` is valid only on the channel that it arrived on."""

    tag: int
    redelivered: bool
    message: Message
    undecodable: str | None = None
    """Why the AMQP properties could not be read; the message then carries none."""
    is_second_try: bool = False

    @property
    def attempt(self) -> int:
        """The number in the header, or 1 where that is missing or makes no sense; one more at the second try."""
        return self._first_try + self.is_second_try

    @property
    def retries(self) -> int:
        """The number in the header. A message without it was put back before each attempt but the first."""
        return self._number(RETRIES, least=0) if RETRIES in self.message.headers else self._first_try - 1

    @property
    def _first_try(self) -> int:
        return self._number(ATTEMPT, least=1)

    def _number(self, header: str, *, least: int) -> int:
        number = self.message.headers.get(header)
        return number if type(number) is int and least <= number <= 1_000_000 else least


def keys(headers: Mapping[Any, Any]) -> dict[str, Any]:
    """The headers that carry the keys of partitioned queues: they stay with a message wherever it goes."""
    # A name that is no UTF-8 is bytes, as pika decodes it.
    return {name: value for name, value in headers.items() if isinstance(name, str) and name.startswith(KEY_HEADER)}


def header_time() -> str:
    """The time now, as the headers carry it (RFC 3339)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

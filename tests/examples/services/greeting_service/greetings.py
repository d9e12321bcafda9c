"""The rules of the greeting service: types and decisions. No I/O."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from greeting_service.contract import CONTRACT
from greeting_service.events import GreetingRequested, GreetingRequestedData, GreetingWritten, GreetingWrittenData
from shared.ids import new_id
from shared.messaging.retry import PermanentError

WORDS = {"de": "Hallo", "en": "Hello", "es": "Hola", "fr": "Bonjour"}

REQUESTED, WRITTEN = "requested", "written"

REPLACES = {REQUESTED: (), WRITTEN: (REQUESTED,)}
"""By the status of a new record: those of the records that it may replace. A written greeting stays as it is."""


@dataclass(frozen=True)
class Greeting:
    """What is kept of one greeting. `event_id`: of the event that tells of its status; `at`: when it got it."""

    greeting_id: str
    status: str
    name: str
    language: str
    text: str
    at: datetime
    event_id: str


def requested(name: str, language: str) -> Greeting:
    """A new greeting. Its language may be one that is not known yet."""
    return Greeting(new_id(), REQUESTED, name, language, "", datetime.now(UTC), new_id())


def written(event: GreetingRequested) -> Greeting:
    """The greeting that was asked for. Raises `PermanentError` if its language is not known."""
    name, language = event.data.name, event.data.language
    if language not in WORDS:
        raise PermanentError("unknown-language", f"there is no word for {language!r}, only for {', '.join(WORDS)}")
    return Greeting(event.subject, WRITTEN, name, language, f"{WORDS[language]}, {name}!", datetime.now(UTC), new_id())


def event_of(greeting: Greeting, cause: GreetingRequested | None = None) -> GreetingRequested | GreetingWritten:
    """The event that tells of a greeting's status; re-emitted if its cause was."""
    again = cause.again if cause else None
    about: dict[str, Any] = {"source": CONTRACT.name, "id": greeting.event_id, "time": greeting.at, "again": again}
    if greeting.status == REQUESTED:
        data = GreetingRequestedData(name=greeting.name, language=greeting.language)
        return GreetingRequested.about(greeting.greeting_id, data=data, **about)
    return GreetingWritten.about(greeting.greeting_id, data=GreetingWrittenData(text=greeting.text), **about)

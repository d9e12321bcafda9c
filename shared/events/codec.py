"""Events as bytes and back: which bodies are events, and what is wrong with the others."""

import re
from functools import cache
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter, ValidationError

from shared.events.envelope import Event

MAX_EVENT_BYTES = 256 * 1024
"""The largest event that is written or read. HTTP bodies are refused from a quarter of this."""

CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"

_READS_LIKE_A_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def event_classes() -> dict[str, type[Event]]:
    """Every event class that was imported, by its type."""
    return {event.type_name(): event for event in Event.__subclasses__()}


class UnreadableEvent(Exception):
    """A body that is no event of ours and never will be. `reason` is the word for the dead letter."""

    reason = "unreadable"


class Oversize(UnreadableEvent):
    reason = "oversize"


class NotJson(UnreadableEvent):
    reason = "not-json"


class UnknownType(UnreadableEvent):
    reason = "unknown-type"


class UnknownVersion(UnreadableEvent):
    reason = "unknown-version"


class SchemaMismatch(UnreadableEvent):
    reason = "schema-mismatch"


def encode(event: Event) -> bytes:
    """The event as CloudEvents JSON. Raises `Oversize` above `MAX_EVENT_BYTES`: it must not reach the outbox."""
    body = event.model_dump_json(exclude_none=True).encode()
    _check_size(body)
    return body


def decode(body: bytes) -> Event:
    """The event in a message's body. Raises a kind of `UnreadableEvent` that says which and what was expected."""
    _check_size(body)
    try:
        event: Event = _reader(len(Event.__subclasses__())).validate_json(body)
    except ValidationError as error:
        raise _unreadable(error) from None
    return event


@cache
def _reader(number_of_classes: int) -> TypeAdapter[Any]:
    """Built again once more classes were imported: a service outside of this repository has its own."""
    union: Any = Union[tuple(event_classes().values())]  # noqa: UP007 - of what is known then
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


def _check_size(body: bytes) -> None:
    if len(body) > MAX_EVENT_BYTES:
        raise Oversize(f"{len(body)} bytes, expected at most {MAX_EVENT_BYTES}")


def _unreadable(error: ValidationError) -> UnreadableEvent:
    first = error.errors(include_url=False, include_input=False)[0]
    match first["type"]:
        case "json_invalid":
            return NotJson(first["msg"])
        case "union_tag_invalid":
            return _unknown(str(first["ctx"]["tag"]))
    # Location and message only: the input may hold people's data, and an error is logged.
    field = ".".join(str(part) for part in first["loc"][1:]) or "envelope"
    return SchemaMismatch(f"{field}: {first['msg']}")


def _unknown(event_type: str) -> UnreadableEvent:
    # Named only where it looks like a type: people's data may stand in its place, and an error is logged.
    name = f"type {event_type!r}" if _READS_LIKE_A_TYPE.fullmatch(event_type) else "what stands for the type is none"
    families = {event.family() for event in event_classes().values()}
    kind = UnknownVersion if event_type.rpartition(".")[0] in families else UnknownType
    return kind(f"{name}, expected one of {sorted(event_classes())}")

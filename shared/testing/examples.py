"""Events with any values, for tests that need one and do not care which."""

from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from shared.events import Event
from shared.ids import new_id

EventType = TypeVar("EventType", bound=Event)


def any_event(event: type[EventType]) -> EventType:
    """An event of this class, with a value of its type in each field that needs one."""
    return event.about(new_id(), source="a_service", data=_any(event.model_fields["data"].annotation))


def _any(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind(
            **{name: _any(field.annotation) for name, field in kind.model_fields.items() if field.is_required()}
        )
    values = {str: "text", int: 1, float: 1.0, bool: True, datetime: datetime.now(UTC)}
    if kind not in values:
        raise TypeError(f"no value of the type {kind} is known here: add one")
    return values[kind]

"""The envelope of every event: CloudEvents 1.0 in structured JSON mode."""

import re
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.ids import OrderId, new_id
from shared.observability.tracing import current_traceparent

SUBJECT = "order"
"""What the subject of an event is, in sentences for people."""

TYPE_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\.v[0-9]+")


class Value(BaseModel):
    """Base of the immutable values. Unknown fields are ignored, so that a newer writer can add one."""

    model_config = ConfigDict(frozen=True)


class Money(Value):
    """An amount in integer minor units (cents) of an ISO 4217 currency."""

    amount_minor: int = Field(ge=0, le=10**12, examples=[2350])
    currency: str = Field(pattern="^[A-Z]{3}$", examples=["EUR"])


class Event(BaseModel):
    """The base of all events. `subject`: the id of what it is about; `time`: aware UTC; `source`: who publishes it.

    A subclass sets `type`, whose end is its version, and the model of `data`. What old readers could not read is a new
    version: a new class beside the old one. `shared.events.decode` knows each direct subclass that was imported.
    """

    model_config = ConfigDict(frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=128)
    source: str = Field(min_length=1, max_length=128)
    type: str
    subject: OrderId
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = Field(default=None, max_length=128)
    again: Literal[True] | None = None
    """Set on a re-emitted event: a service that has done its work already re-emits its own event, which may be lost."""
    data: Any

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Raises TypeError for a subclass without a type: without it no event at all could be decoded."""
        name, kind = cls.model_fields["type"].default, cls.model_fields["type"].annotation
        if get_origin(kind) is not Literal or get_args(kind) != (name,) or not TYPE_NAME.fullmatch(name):
            raise TypeError(f"{cls.__name__}.type must be a Literal and its default, such as `parcel.sent.v1`")

    @classmethod
    def type_name(cls) -> str:
        """Such as `parcel.sent.v1`: also the routing key."""
        return str(cls.model_fields["type"].default)

    @classmethod
    def family(cls) -> str:
        """The type without its version, such as `parcel.sent`."""
        return cls.type_name().rpartition(".")[0]

    @classmethod
    def about(
        cls,
        order_id: str,
        *,
        source: str,
        data: Value,
        id: str | None = None,
        time: datetime | None = None,
        again: Literal[True] | None = None,
    ) -> Self:
        """A new event about a subject, in the current trace; with `again`, `id` and `time` the same event once more."""
        return cls(  # type: ignore[call-arg]  # each subclass has its own type as the default
            id=id or new_id(),
            source=source,
            subject=order_id,
            time=time or datetime.now(UTC),
            again=again,
            traceparent=current_traceparent(),
            data=data,
        )

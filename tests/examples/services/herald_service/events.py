"""The event that the herald service publishes."""

from typing import Literal

from shared.events.envelope import Event, Value


class HeraldAnnouncedData(Value):
    cause: str


class HeraldAnnounced(Event):
    """The herald service has done its work for the order. `cause`: the type of the event that asked for it."""

    type: Literal["herald.announced.v1"] = "herald.announced.v1"
    data: HeraldAnnouncedData

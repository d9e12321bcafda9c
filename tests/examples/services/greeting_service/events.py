"""The events that the greeting service publishes."""

from typing import Literal

from shared.events.envelope import Event, Value


class GreetingRequestedData(Value):
    name: str
    language: str


class GreetingRequested(Event):
    """Somebody is to be greeted."""

    type: Literal["greeting.requested.v1"] = "greeting.requested.v1"
    data: GreetingRequestedData


class GreetingWrittenData(Value):
    text: str


class GreetingWritten(Event):
    """The greeting is written."""

    type: Literal["greeting.written.v1"] = "greeting.written.v1"
    data: GreetingWrittenData

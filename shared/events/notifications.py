"""The events that the notification service publishes."""

from typing import Literal

from pydantic import Field

from shared.events.envelope import Event, Value

Channel = Literal["email", "sms", "restaurant"]
Notice = Literal["receipt", "decline", "kitchen_ticket"]


class NotificationData(Value):
    channel: Channel
    notice: Notice
    attempts: int = Field(ge=1)


class NotificationFailedData(NotificationData):
    error: str


class NotificationDelivered(Event):
    type: Literal["notification.delivered.v1"] = "notification.delivered.v1"
    data: NotificationData


class NotificationFailed(Event):
    type: Literal["notification.failed.v1"] = "notification.failed.v1"
    data: NotificationFailedData

"""The events that the notification service publishes."""

from typing import Literal

from pydantic import Field

from shared.events.envelope import Event, Value

ChannelName = Literal["email", "sms", "push", "restaurant"]
NoticeKind = Literal["receipt", "decline", "kitchen_ticket", "cancellation", "refund", "kitchen_stop"]


class NotificationData(Value):
    channel: ChannelName
    notice: NoticeKind
    attempts: int = Field(ge=1)


class NotificationFailedData(NotificationData):
    error: str


class NotificationDelivered(Event):
    """The customer or the restaurant was notified over one channel."""

    type: Literal["notification.delivered.v1"] = "notification.delivered.v1"
    data: NotificationData


class NotificationFailed(Event):
    """A notification was given up for now: a dead letter says why, and a redrive may still deliver it."""

    type: Literal["notification.failed.v1"] = "notification.failed.v1"
    data: NotificationFailedData

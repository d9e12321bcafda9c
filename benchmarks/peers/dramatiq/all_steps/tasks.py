"""Dramatiq's broker and its actors. Its queues are quorum queues where that is the virtual host's default."""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.peers import all_steps
from benchmarks.peers.shop import PlacedOrder

broker = RabbitmqBroker(url=os.environ["RABBITMQ_URL"], confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="charge")
def charge(placed: dict[str, Any]) -> None:
    paid = all_steps.charge(PlacedOrder.model_validate(placed)).model_dump(mode="json")
    for actor in (email, sms, push, restaurant, track):
        actor.send(paid)


@dramatiq.actor(queue_name="email")
def email(paid: dict[str, Any]) -> None:
    notify("email", paid)


@dramatiq.actor(queue_name="sms")
def sms(paid: dict[str, Any]) -> None:
    notify("sms", paid)


@dramatiq.actor(queue_name="push")
def push(paid: dict[str, Any]) -> None:
    notify("push", paid)


@dramatiq.actor(queue_name="restaurant")
def restaurant(paid: dict[str, Any]) -> None:
    notify("restaurant", paid)


@dramatiq.actor(queue_name="track")
def track(report: dict[str, Any]) -> None:
    all_steps.track(all_steps.Report.model_validate(report))


def notify(channel: str, paid: dict[str, Any]) -> None:
    report = all_steps.notify(channel, all_steps.Paid.model_validate(paid))
    if report is not None:
        track.send(report.model_dump(mode="json"))

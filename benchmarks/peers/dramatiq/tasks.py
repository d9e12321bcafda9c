"""Dramatiq's broker and its actors.

It acknowledges after the work, and waits for the broker's confirms once it is told to. It has no setting for quorum
queues: its queues are durable classic ones, the only kind that it declares.
"""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.peers import shop

dramatiq.set_broker(RabbitmqBroker(url=os.environ["RABBITMQ_URL"], confirm_delivery=True))


@dramatiq.actor(queue_name="payments")
def pay(placed: dict[str, Any]) -> None:
    total = placed["order"]["total"]
    shop.pay(placed["order_id"], total["amount_minor"], total["currency"])
    notify.send(placed)


@dramatiq.actor(queue_name="notifications")
def notify(placed: dict[str, Any]) -> None:
    shop.notify(placed["order_id"], placed["order"]["customer_email"])

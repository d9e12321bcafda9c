"""Celery's application and its tasks.

As its documentation says for RabbitMQ: quorum queues, which it detects; late acknowledgement, also when a worker is
lost; confirmed publishing; and for many short tasks a large prefetch. A task that fails is acknowledged too, so that
it must be told to try again.
"""

import os
from typing import Any

from celery import Celery
from sqlalchemy.exc import OperationalError

from benchmarks.peers import shop

app = Celery("shop", broker=os.environ["RABBITMQ_URL"])
app.conf.update(
    task_default_queue_type="quorum",
    task_create_missing_queue_type="quorum",
    task_routes={"pay": {"queue": "payments"}, "notify": {"queue": "notifications"}},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=64,
)


@app.task(name="pay", autoretry_for=(OperationalError,))
def pay(placed: dict[str, Any]) -> None:
    total = placed["order"]["total"]
    shop.pay(placed["order_id"], total["amount_minor"], total["currency"])
    notify.delay(placed)


@app.task(name="notify", autoretry_for=(OperationalError,))
def notify(placed: dict[str, Any]) -> None:
    shop.notify(placed["order_id"], placed["order"]["customer_email"])

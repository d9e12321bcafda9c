"""TaskIQ's brokers, one a queue since each worker takes from one, and the tasks.

Its queues are quorum queues by default, aio-pika confirms what is published, and a worker acknowledges after the work;
after work that failed too, so that the retry middleware has to send it again.
"""

import asyncio
import os

from taskiq import SimpleRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker, Queue

from benchmarks.peers import shop

PREFETCH = 64


def _broker(queue: str) -> AioPikaBroker:
    broker = AioPikaBroker(os.environ["RABBITMQ_URL"], qos=PREFETCH).with_queues(Queue(name=queue))
    broker.add_middlewares(SimpleRetryMiddleware())
    return broker


payments, notifications = _broker("payments"), _broker("notifications")


@payments.on_event(TaskiqEvents.WORKER_STARTUP)
async def connect(_state: TaskiqState) -> None:
    await notifications.startup()


@payments.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def disconnect(_state: TaskiqState) -> None:
    await notifications.shutdown()


@payments.task(retry_on_error=True)
async def pay(placed: shop.PlacedOrder) -> None:
    total = placed.order.total
    await asyncio.to_thread(shop.pay, placed.order_id, total.amount_minor, total.currency)
    await notify.kiq(placed)


@notifications.task(retry_on_error=True)
def notify(placed: shop.PlacedOrder) -> None:
    shop.notify(placed.order_id, placed.order.customer_email)

"""Repid's actors, and a worker that runs those of one queue.

An actor is acknowledged after its work. One that fails is rejected, which returns the message to the queue.
"""

import asyncio
import sys
from typing import Annotated

import uvloop
from fastapi.concurrency import run_in_threadpool
from repid import FullPayload, Repid, Router, catch_all_routing_strategy

from benchmarks.peers import shop
from benchmarks.peers.repid.server import new_server, publish, publisher

PREFETCH = 64

payments, notifications = Router(), Router()
Placed = Annotated[shop.PlacedOrder, FullPayload()]


@payments.actor(channel="payments", routing_strategy=catch_all_routing_strategy, on_error="reject")
async def pay(placed: Placed) -> None:
    total = placed.order.total
    await run_in_threadpool(shop.pay, placed.order_id, total.amount_minor, total.currency)
    await publish("notifications", placed)


@notifications.actor(channel="notifications", routing_strategy=catch_all_routing_strategy, on_error="reject")
def notify(placed: Placed) -> None:
    shop.notify(placed.order_id, placed.order.customer_email)


async def run(queue: str) -> None:
    app, consumer = Repid(), new_server()
    app.servers.register_server("default", consumer, is_default=True)
    app.include_router({"payments": payments, "notifications": notifications}[queue])
    async with publisher.connection(), consumer.connection():
        await app.run_worker(tasks_limit=PREFETCH)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(sys.argv[1]))

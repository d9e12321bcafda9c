"""The notification worker: a queue for each channel. A text message may have no recipient, and then no event."""

from fastapi.concurrency import run_in_threadpool
from faststream import AckPolicy, FastStream

from benchmarks.peers import all_steps
from benchmarks.peers.all_steps import Paid
from benchmarks.peers.faststream.all_steps.topology import (
    EMAIL,
    EVENTS,
    NOTIFICATION_DELIVERED,
    PUSH,
    RESTAURANT,
    SMS,
    declare,
    new_broker,
)

broker = new_broker()
app = FastStream(broker)
delivered = broker.publisher(exchange=EVENTS, routing_key=NOTIFICATION_DELIVERED, persist=True)


@app.on_startup
async def prepare() -> None:
    await declare(broker)


@broker.subscriber(EMAIL, ack_policy=AckPolicy.NACK_ON_ERROR)
async def email(paid: Paid) -> None:
    await notify("email", paid)


@broker.subscriber(SMS, ack_policy=AckPolicy.NACK_ON_ERROR)
async def sms(paid: Paid) -> None:
    await notify("sms", paid)


@broker.subscriber(PUSH, ack_policy=AckPolicy.NACK_ON_ERROR)
async def push(paid: Paid) -> None:
    await notify("push", paid)


@broker.subscriber(RESTAURANT, ack_policy=AckPolicy.NACK_ON_ERROR)
async def restaurant(paid: Paid) -> None:
    await notify("restaurant", paid)


async def notify(channel: str, paid: Paid) -> None:
    report = await run_in_threadpool(all_steps.notify, channel, paid)
    if report is not None:
        await delivered.publish(report)

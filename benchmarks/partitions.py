"""Events of 20 keys whose handler takes 5 ms: a queue in sequence, and partitions in sequence within a key.

    python -m benchmarks.partitions

One process, a RabbitMQ node of its own. Not part of `make bench`.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from control_room.launcher.broker import PrivateBroker
from shared.events import OrderPlaced, encode
from shared.management import Management
from shared.messaging.consumer import Consumer
from shared.messaging.message import Message
from shared.messaging.processor import Subscription
from shared.messaging.publisher import Publisher, publishing
from shared.messaging.retry import DONE, Ack
from shared.settings import BrokerSettings
from tests import examples

KEYS, MESSAGES, WORK_SECONDS = 20, 2000, 0.005
HEADER = "key.subject"


async def rate(settings: BrokerSettings, publisher: Publisher, partitions: int, keys: int) -> float:
    """Messages handled a second, of a backlog of `MESSAGES`."""
    exchange = f"hashed-{partitions}-{keys}"
    queues = [f"{exchange}.{number}" for number in range(partitions)]
    await _declare(settings, exchange, queues)
    event = examples.order_placed()
    headers = [{HEADER: f"key-{number % keys}"} for number in range(MESSAGES)]
    messages = [Message(exchange, event.type, encode(event), event.id, event.type, headers=each) for each in headers]
    assert await publisher.publish_all(messages) == [None] * MESSAGES
    done = SimpleNamespace(count=0, event=asyncio.Event())

    async def handle(_event: OrderPlaced, _attempt: int) -> Ack:
        await asyncio.sleep(WORK_SECONDS)
        done.count += 1
        if done.count == MESSAGES:
            done.event.set()
        return DONE

    subscriptions = [Subscription(queue, {OrderPlaced: handle}, 100, key_header=HEADER) for queue in queues]
    consumer = Consumer(settings.rabbitmq_url, exchange, subscriptions, publisher, lambda _queue: (1.0,))
    began = time.perf_counter()
    await consumer.start()
    await done.event.wait()
    seconds = time.perf_counter() - began
    await consumer.stop()
    return MESSAGES / seconds


async def _declare(settings: BrokerSettings, exchange: str, queues: Sequence[str]) -> None:
    async with Management(settings) as management:
        body = {"type": "x-consistent-hash", "durable": True, "arguments": {"hash-header": HEADER}}
        await management.put("exchanges", management.vhost, exchange, body=body)
        for queue in queues:
            arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
            await management.put("queues", management.vhost, queue, body={"durable": True, "arguments": arguments})
            path = ("bindings", management.vhost, "e", exchange, "q", queue)
            await management.post(*path, body={"routing_key": "1"})


async def main() -> None:
    """Print the rates, and how many times that of the first each is."""
    with tempfile.TemporaryDirectory() as directory:
        async with PrivateBroker(Path(directory)) as node:
            settings = BrokerSettings(rabbitmq_url=node.amqp_url(), rabbitmq_management_url=node.management_url)
            async with publishing(settings.rabbitmq_url, "partitions") as publisher:
                one = await rate(settings, publisher, 1, 1)
                for partitions, keys in ((1, 1), (1, KEYS), (4, KEYS)):
                    found = one if keys == 1 else await rate(settings, publisher, partitions, keys)
                    print(f"{partitions} partitions, {keys} keys: {found:,.0f} messages/s, {found / one:.1f} x")


if __name__ == "__main__":
    asyncio.run(main())

"""The outbox relay: `python -m benchmarks.peers.faststream.all_steps.relay`."""

import asyncio

import uvloop

from benchmarks.peers.all_steps import RELAY_POLL_SECONDS, outbox_batch
from benchmarks.peers.faststream.all_steps.topology import EVENTS, ORDER_PLACED, declare, new_broker


async def relay() -> None:
    async with new_broker() as broker:
        await declare(broker)
        publisher = broker.publisher(exchange=EVENTS, routing_key=ORDER_PLACED, persist=True)
        await broker.start()
        while True:
            with outbox_batch() as messages:
                await asyncio.gather(*(publisher.publish(message) for message in messages))
            if not messages:
                await asyncio.sleep(RELAY_POLL_SECONDS)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(relay())

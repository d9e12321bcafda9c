"""pass-through: the rate at which the messages of a drain can go at all through pika and RabbitMQ on this machine.

The same queues, the same number of publishes and deliveries of the same size, confirmed and acknowledged, in as many
processes; no database, no validation, no HTTP. What Order Rail's drain falls short of it is what its work costs.
"""

import json
from contextlib import AsyncExitStack

from benchmarks.accept import wait_for_arrival
from benchmarks.bench import Bench
from benchmarks.contenders import ORDER_RAIL
from benchmarks.load.run import program_running, run_program
from benchmarks.stage import Scene

NAME = "pass_through"
PASSER = "benchmarks.load.passer"


async def measure_round(bench: Bench, _round_number: int) -> None:
    """Once, from a full first queue."""
    bench.say(f"{NAME}: pika alone")
    async with bench.scene(ORDER_RAIL) as scene:
        seconds = await _pass_all(scene, bench.scale.backlog)
    bench.add(NAME, "pika", "rate", "orders/s", bench.scale.backlog / seconds)


async def _pass_all(scene: Scene, orders: int) -> float:
    url, count = scene.settings.rabbitmq_url, str(orders)
    await run_program(PASSER, "place", url, "--orders", count)
    await wait_for_arrival(scene, orders)
    async with AsyncExitStack() as stack:
        for service in ("payment_service", "notification_service"):
            await stack.enter_async_context(program_running(PASSER, service, url))
        output = await run_program(PASSER, "order_service", url, "--orders", count)
    seconds: float = json.loads(output)["seconds"]
    return seconds

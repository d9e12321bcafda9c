"""accept: how many orders a second are taken and answered, each durable on disk before its answer.

A closed load of 64 connections on what takes the orders; nobody works on them meanwhile. The ceilings only validate
the order. Afterwards every accepted order must come to the queue: Order Rail answers before that, and under load it
keeps its outbox for later; its peers publish before they answer. So there is a second rate, `rate to RabbitMQ`, over
the time until the last accepted order was in the queue.
"""

import asyncio
import time

from benchmarks.bench import Bench
from benchmarks.contenders import CEILINGS, Contender
from benchmarks.load.run import ClosedLoad, place_for_a_while
from benchmarks.stage import MeasurementFailed, Scene

NAME = "accept"
ARRIVAL_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.05


async def measure_round(bench: Bench, round_number: int) -> None:
    """Everyone once."""
    for contender in bench.in_turn(round_number, *CEILINGS):
        bench.say(f"{NAME}: {contender.title}")
        async with bench.scene(contender) as scene:
            await scene.start_web()
            load = await place_for_a_while(scene, bench.scale)
            _add(bench, contender, load)
            if contender.workers:
                await _add_arrival(bench, scene, load)


async def _add_arrival(bench: Bench, scene: Scene, load: ClosedLoad) -> None:
    late, seconds = await wait_for_arrival(scene, load.accepted)
    rate = load.accepted / (bench.scale.warm_up_seconds + load.seconds + seconds)
    bench.add(NAME, scene.contender.name, "rate to RabbitMQ", "orders/s", rate)
    bench.add(NAME, scene.contender.name, "not yet there at the end", "orders", late)


def _add(bench: Bench, contender: Contender, load: ClosedLoad) -> None:
    add = bench.add
    add(NAME, contender.name, "rate", "orders/s", load.rate)
    add(NAME, contender.name, "p50", "ms", load.p50_seconds * 1000)
    add(NAME, contender.name, "p99", "ms", load.p99_seconds * 1000)
    add(NAME, contender.name, "load generator", "% of a core", load.processor_share * 100)


async def wait_for_arrival(scene: Scene, orders: int) -> tuple[int, float]:
    """Wait until so many orders are in the first queue; how many were missing at first, and how long they took.

    Raises MeasurementFailed if they do not arrive: then they were answered, and lost.
    """
    began, queue = time.perf_counter(), scene.contender.first_queue
    missing_at_first = missing = orders - (await scene.queue(queue)).messages
    while missing > 0:
        if time.perf_counter() > began + ARRIVAL_TIMEOUT_SECONDS:
            raise MeasurementFailed(f"{scene.contender.title}: {missing} of {orders} orders never came to {queue}")
        scene.check_alive()
        await asyncio.sleep(POLL_SECONDS)
        missing = orders - (await scene.queue(queue)).messages
    return missing_at_first, time.perf_counter() - began

"""`python -m control_room.experiments.sequence_consumer`: handles events of several keys, as a service would.

Each event takes some time; then a line with the key, the event, the time and the process goes to a file. Once the
process waits for events, there is a file beside it with the process's number.
"""

import asyncio
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from shared.events import OrderPlaced
from shared.messaging.consumer import Consumer
from shared.messaging.processor import Subscription
from shared.messaging.publisher import publishing
from shared.messaging.retry import DONE, Ack
from shared.observability import logging
from shared.waiting import poll

NAME = "sequence consumer"
LOOK_SECONDS = 0.01


def ready_file(file: Path, pid: int) -> Path:
    """It is there once the process waits for events."""
    return file.with_name(f"{pid}.ready")


async def handle_all(queues: Sequence[str], key_header: str, file: Path, seconds: float, concurrency: int) -> None:
    """Until it is killed."""
    url, line_end = os.environ["RABBITMQ_URL"], f" {os.getpid()}\n"
    lines = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(event: OrderPlaced, _attempt: int) -> Ack:
        await asyncio.sleep(seconds)
        line = f"{event.data.order.customer_email} {event.subject} {time.time()}{line_end}"
        os.write(lines, line.encode())  # at once and whole: several processes write to the file
        return DONE

    async with publishing(url, NAME) as publisher:
        subscriptions = [
            Subscription(queue, {OrderPlaced: handle}, concurrency, key_header=key_header) for queue in queues
        ]

        async def is_consuming() -> bool:
            return consumer.problem() is None

        consumer = Consumer(url, NAME, subscriptions, publisher, lambda _queue: (1.0,))
        await consumer.start()
        await poll(is_consuming, within_seconds=math.inf, every_seconds=LOOK_SECONDS)
        ready_file(file, os.getpid()).touch()
        await asyncio.Event().wait()


def main(
    queues: list[str],
    key_header: Annotated[str, typer.Option()],
    file: Annotated[Path, typer.Option()],
    seconds: Annotated[float, typer.Option(help="Of work for each event.")],
    concurrency: Annotated[int, typer.Option(help="Deliveries at once of each queue; 1: one after the other.")],
) -> None:
    """Handle what comes to these queues of $RABBITMQ_URL."""
    logging.configure(NAME, "json")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(handle_all(queues, key_header, file, seconds, concurrency))


if __name__ == "__main__":
    typer.run(main)

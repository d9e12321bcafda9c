"""Faults of the topology: queues deleted, unbound and filled, under those who consume them and those who publish."""

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from control_room.experiments.chaos.faults.scene import Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.experiments.chaos.watch import SWEPT
from shared import contract
from shared.messaging.connection import Connection
from shared.topology.definition import retry_queue

PUBLISHED = "order_rail_messages_published_total"
CHARGES = "payment_service.charge"
TRIES = 4
"""The topology keeper may put things back before anything has gone wrong without them."""
SWEEP_PATIENCE_SECONDS = 12.0
"""Longer than orders in a chaos run must be quiet to be told again."""
FULL_MESSAGES = 100
FIRST_DELAY_SECONDS = 0.5
"""Of the retries in a chaos run."""


async def queue_deleted(scene: Scene, fall: Fall, marks: Marks) -> None:
    """A queue is deleted under its consumer, with what is in it; the topology keeper puts it back empty."""
    before = await scene.counter("order_service", SWEPT)
    for _ in range(TRIES):
        async with _held_still(scene, fall.target) as held:
            marks.begin()
            await scene.management.delete("queues", scene.management.vhost, fall.target)
            await scene.until(lambda: _exists(scene, fall.target), f"{fall.target} to be put back")
            scene.queue_put_back_at = time.monotonic()
        gone_seconds = scene.queue_put_back_at - marks.began_at
        marks.saw(f"it was deleted with {held} messages waiting in it, and put back after {gone_seconds:.1f} s")
        marks.end()
        try:
            after = await scene.until_counted("order_service", SWEPT, {}, before + 1, SWEEP_PATIENCE_SECONDS)
        except NoEvidence:
            continue  # the keeper was so quick that nothing was lost: then again
        marks.saw(f"{after - before:g} orders had their event told again")
        return
    raise NoEvidence(f"{fall.target} was deleted {TRIES} times, and nothing was lost with it")


async def _exists(scene: Scene, queue: str) -> bool:
    return await scene.management.find("queues", scene.management.vhost, queue) is not None


@asynccontextmanager
async def _held_still(scene: Scene, queue: str) -> AsyncIterator[int]:
    """The consumer is frozen until more messages wait than it can hold, and while the block runs; how many wait.

    Not so the order service: nothing moves without it. What is published while its queue is away is lost anyhow.
    """
    service = queue.partition(".")[0]
    if service == "order_service":
        yield 0
        return
    pid = scene.process(service).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield await _pile_up(scene, queue)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def _pile_up(scene: Scene, queue: str) -> int:
    """How many messages wait in the queue, once there are some: those that its consumer holds don't count."""
    connection = await Connection.open(scene.system.broker_settings.rabbitmq_url, "chaos look")
    try:
        channel = await connection.channel()

        async def waiting() -> int:
            return (await channel.inspect(queue)).messages

        return await scene.until(waiting, f"messages waiting in {queue}")
    finally:
        await connection.close()


async def unbound(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The queue of an exchange is unbound under its publisher, so that events come back; the keeper binds it again."""
    queue = fall.target
    ((exchange, routing_key),) = [(each.exchange, each.key) for each in contract.patterns(contract.queues()[queue])]
    path = ("bindings", scene.management.vhost, "e", exchange, "q", queue)

    async def unbind() -> None:
        await scene.management.delete(*path, routing_key)

    marks.begin()
    try:
        returned = await _until_returned(scene, "order_service", exchange, unbind)
        await scene.until(lambda: scene.management.find(*path), "the keeper to bind it again")
    finally:
        marks.end()
    marks.saw(f"{returned:g} events came back as unroutable; the topology keeper bound the queue again")


async def retry_queue_deleted(scene: Scene, fall: Fall, marks: Marks) -> None:
    """A retry queue is deleted under the consumer that publishes to it, with what waits in it."""
    service, queue = fall.target.partition(".")[0], retry_queue(fall.target, FIRST_DELAY_SECONDS)

    async def delete() -> None:
        await scene.management.delete("queues", scene.management.vhost, queue)

    marks.begin()
    try:
        returned = await _until_returned(scene, service, "", delete)
        await scene.until(lambda: _exists(scene, queue), f"{queue} to be put back")
    finally:
        scene.queue_put_back_at = time.monotonic()
        marks.end()
    marks.saw(f"{returned:g} messages for {queue} came back as unroutable; the topology keeper put it back")


async def _until_returned(scene: Scene, service: str, exchange: str, take: Callable[[], Awaitable[None]]) -> float:
    """How many messages came back to the service; the keeper may be so quick that none does: then take it again."""
    labels = {"exchange": exchange, "result": "unroutable"}
    before = await scene.counter(service, PUBLISHED, labels)
    for _ in range(TRIES):
        await take()
        with suppress(NoEvidence):
            return await scene.until_counted(service, PUBLISHED, labels, before + 1, 4) - before
    raise NoEvidence(f"nothing came back to {service}, though it was taken {TRIES} times")


async def queue_full(scene: Scene, fall: Fall, marks: Marks) -> None:
    """A queue takes no more messages (`reject-publish`) while its consumer holds still, until it is worked off.

    Not the queue of charges: RabbitMQ 3.10 brings no retries back to a queue that was full once.
    """
    labels, service = {"result": "refused"}, "payment_service"
    before = await scene.counter(service, PUBLISHED, labels)
    policy = ("policies", scene.management.vhost, "chaos-full")
    definition = {"pattern": f"^{fall.target}$", "definition": {"max-length": FULL_MESSAGES}, "apply-to": "queues"}
    marks.begin()
    try:
        await scene.management.put(*policy, body=definition)
        async with _held_still(scene, fall.target):
            after = await scene.until_counted(service, PUBLISHED, labels, before + 1)
        # Not before it has room again: RabbitMQ 3.10 tells those whom it refused only when messages leave.
        await scene.until(lambda: _is_worked_off(scene, fall.target), f"{fall.target} to be worked off")
    finally:
        await scene.management.delete(*policy)
        marks.end()
    marks.saw(f"{after - before:g} events were refused by the full queue")


async def _is_worked_off(scene: Scene, queue: str) -> bool:
    found = await scene.management.find("queues", scene.management.vhost, queue)
    return bool(found) and found.get("messages", FULL_MESSAGES) < FULL_MESSAGES // 2


FAULTS = (
    Fault(
        Kind("queue-deleted", tuple(contract.queues()), (0, 0), 18),
        "A queue deleted under its consumer, with messages in it",
        queue_deleted,
    ),
    Fault(
        Kind("retry-queue-deleted", (CHARGES,), (0, 0), 18),
        "A retry queue deleted under its publisher, with messages in it",
        retry_queue_deleted,
    ),
    Fault(Kind("unbound", (CHARGES,), (0, 0), 10), "A queue unbound under its publisher: events come back", unbound),
    Fault(
        Kind("queue-full", ("notification_service.email",), (0, 0), 12),
        "A queue that is full refuses what is published",
        queue_full,
    ),
)

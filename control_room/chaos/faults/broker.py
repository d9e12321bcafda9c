"""Faults of the broker: its process, its resources, its connections and its topology."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from control_room.chaos.faults.scene import Fault, Marks, NoEvidence, Scene
from control_room.chaos.schedule import Fall, Kind
from control_room.chaos.watch import SWEPT
from control_room.launcher import SERVICES
from shared.messaging.connection import Connection
from shared.topology.definition import SUBSCRIPTIONS

YOUNG_QUEUE_SECONDS = 10.0
"""RabbitMQ 3.10 may lose a quorum queue that was created only seconds before the node is killed."""
AWAY = ("RabbitMQ is away", "not consuming")
PUBLISHED = "order_rail_messages_published_total"
CONNECTIONS = "order_rail_broker_connections_opened_total"
MEMORY_LIMIT, DISK_LIMIT = "1GB", "50MB"
"""As the private node is configured."""
MORE_DISK_THAN_THERE_IS = "100000000000000000"
TRIES = 4
"""The topology keeper may put things back before anything has gone wrong without them."""
SWEEP_PATIENCE_SECONDS = 12.0
"""Longer than orders in a chaos run must be quiet to be told again."""


async def broker_kill(scene: Scene, fall: Fall, marks: Marks) -> None:
    """SIGKILL to the node; it is started again after a while."""
    await _until_queues_are_old(scene)
    await _away(scene, fall, marks, scene.broker.kill)


async def broker_restart(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The node is stopped in order; it is started again after a while."""
    await _away(scene, fall, marks, scene.broker.stop)


async def _away(scene: Scene, fall: Fall, marks: Marks, leave: Callable[[], Awaitable[None]]) -> None:
    broker, pid = scene.broker, scene.broker.pid
    marks.saw(f"{await scene.orders_in_flight()} when it went away")
    marks.begin()
    try:
        await leave()
        marks.saw(await scene.until_unready(*AWAY))
        await asyncio.sleep(fall.seconds)
    finally:
        await broker.start()
        marks.end()
    marks.saw(f"process {pid} is gone, process {broker.pid} runs")


async def _until_queues_are_old(scene: Scene) -> None:
    await asyncio.sleep(max(0.0, scene.queue_put_back_at + YOUNG_QUEUE_SECONDS - time.monotonic()))


async def broker_freeze(scene: Scene, fall: Fall, marks: Marks) -> None:
    """SIGSTOP to the node for longer than the heartbeat: connections stay open, and nothing answers."""
    marks.saw(f"{await scene.orders_in_flight()} when it was frozen")
    marks.begin()
    scene.broker.suspend()
    try:
        marks.saw(f"{await scene.until_unready(*AWAY)} while it was frozen")
        await asyncio.sleep(fall.seconds)
    finally:
        scene.broker.resume()
        marks.end()


async def memory_alarm(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The node thinks that it is out of memory, and blocks publishers."""
    limit = ("set_vm_memory_high_watermark", "absolute")
    await _alarm(scene, fall, marks, "mem_alarm", (*limit, "1MB"), (*limit, MEMORY_LIMIT))


async def disk_alarm(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The node thinks that its disk is full, and blocks publishers."""
    limit = "set_disk_free_limit"
    await _alarm(scene, fall, marks, "disk_free_alarm", (limit, MORE_DISK_THAN_THERE_IS), (limit, DISK_LIMIT))


async def _alarm(
    scene: Scene, fall: Fall, marks: Marks, alarm: str, raise_it: tuple[str, ...], end_it: tuple[str, ...]
) -> None:
    async def rings() -> bool:
        return any(node.get(alarm) for node in await scene.management.find("nodes"))

    async def blocks() -> bool:
        return any("blocks publishers" in problem for problem in (await scene.watch.unready()).values())

    marks.begin()
    try:
        await scene.broker.control(*raise_it)
        await scene.until(rings, f"{alarm} in the management API")
        await scene.until(blocks, "a service to say that RabbitMQ blocks publishers")
        await asyncio.sleep(fall.seconds)
    finally:
        await scene.broker.control(*end_it)
        marks.end()
    marks.saw(f"the management API showed {alarm}; services said in /readyz that RabbitMQ blocked publishers")


async def connections_closed(scene: Scene, fall: Fall, marks: Marks) -> None:
    """Every AMQP connection of a service is closed from the broker's side."""
    before = await scene.counter(fall.target, CONNECTIONS)

    async def names() -> list[str]:
        return [
            each["name"]
            for each in await scene.management.find("connections") or []
            if str(each.get("client_properties", {}).get("connection_name", "")).startswith(fall.target)
        ]

    closed = await scene.until(names, f"connections of {fall.target} in the management API")
    marks.begin()
    try:
        await asyncio.gather(*(scene.management.delete("connections", name) for name in closed))
    finally:
        marks.end()
    after = await scene.until_counted(fall.target, CONNECTIONS, "", before + len(closed))
    marks.saw(f"{len(closed)} connections were closed, and {after - before:g} opened again")


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
            after = await scene.until_counted("order_service", SWEPT, "", before + 1, SWEEP_PATIENCE_SECONDS)
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
    ((exchange, routing_key),) = SUBSCRIPTIONS[queue]
    label = f'exchange="{exchange}",result="unroutable"'
    before = await scene.counter("order_service", PUBLISHED, label)
    marks.begin()
    try:
        after = await _unbind_until_returned(scene, exchange, queue, routing_key, label, before)
        await scene.until(lambda: _is_bound(scene, exchange, queue), "the keeper to bind it again")
    finally:
        marks.end()
    marks.saw(f"{after - before:g} events came back as unroutable; the topology keeper bound the queue again")


async def _unbind_until_returned(
    scene: Scene, exchange: str, queue: str, routing_key: str, label: str, before: float
) -> float:
    """The keeper may be so quick that no event is published meanwhile: then again."""
    for _ in range(TRIES):
        await scene.management.delete("bindings", scene.management.vhost, "e", exchange, "q", queue, routing_key)
        try:
            return await scene.until_counted("order_service", PUBLISHED, label, before + 1, 4)
        except NoEvidence:
            continue
    raise NoEvidence(f"no event came back from {exchange}, unbound {TRIES} times")


async def _is_bound(scene: Scene, exchange: str, queue: str) -> bool:
    found = await scene.management.find("bindings", scene.management.vhost, "e", exchange, "q", queue)
    return bool(found)


NODE = ("rabbitmq",)
FAULTS = (
    Fault(Kind("broker-kill", NODE, (0.5, 4), 15), "SIGKILL to RabbitMQ, and its start", broker_kill),
    Fault(Kind("broker-restart", NODE, (0.5, 4), 15), "RabbitMQ stopped in order, and started", broker_restart),
    Fault(
        Kind("broker-freeze", NODE, (0.5, 4), 18),
        "SIGSTOP to RabbitMQ until its clients miss its heartbeats, then SIGCONT",
        broker_freeze,
    ),
    Fault(Kind("memory-alarm", NODE, (2, 6), 12), "RabbitMQ is out of memory and blocks publishers", memory_alarm),
    Fault(Kind("disk-alarm", NODE, (2, 6), 12), "RabbitMQ is out of disk and blocks publishers", disk_alarm),
    Fault(
        Kind("connections-closed", SERVICES, (0, 0), 6),
        "All AMQP connections of a service closed by the broker",
        connections_closed,
    ),
    Fault(
        Kind("queue-deleted", tuple(SUBSCRIPTIONS), (0, 0), 18),
        "A queue deleted under its consumer, with messages in it",
        queue_deleted,
    ),
    Fault(
        Kind("unbound", ("payment_service.charge",), (0, 0), 10),
        "A queue unbound under its publisher: events come back",
        unbound,
    ),
)

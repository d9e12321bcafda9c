"""Faults of the broker: its process, its resources, its connections and its patience."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from control_room.experiments.chaos.faults.databases import locked
from control_room.experiments.chaos.faults.scene import Fault, Marks, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.launcher.system import SERVICES

YOUNG_QUEUE_SECONDS = 10.0
"""RabbitMQ 3.10 may lose a quorum queue that was created only seconds before the node is killed."""
AWAY = ("RabbitMQ is away", "not consuming")
CONNECTIONS = "order_rail_broker_connections_opened_total"
MEMORY_LIMIT, DISK_LIMIT = "1GB", "50MB"
"""As the private node is configured."""
MORE_DISK_THAN_THERE_IS = "100000000000000000"
IMPATIENT_MILLISECONDS, PATIENT_MILLISECONDS = 2000, 1_800_000
TICK_MILLISECONDS = 500
"""How often the node looks whether somebody keeps a delivery for too long; a minute, if it is not told."""


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
    after = await scene.until_counted(fall.target, CONNECTIONS, {}, before + len(closed))
    marks.saw(f"{len(closed)} connections were closed, and {after - before:g} opened again")


async def consumer_timeout(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The node closes the channel of a consumer that keeps a delivery for too long: its database is locked."""
    log = scene.process(fall.target).log
    before = log.read_text(errors="replace").count("timed out")
    marks.begin()
    try:
        await _be_patient(scene, IMPATIENT_MILLISECONDS)
        async with locked(scene, fall.target, fall.seconds):

            async def lost_patience() -> bool:
                return log.read_text(errors="replace").count("timed out") > before

            await scene.until(lost_patience, f"RabbitMQ to close a channel of {fall.target}")
            marks.saw(f"RabbitMQ closed a channel on which {fall.target} kept a delivery for too long")
    finally:
        await _be_patient(scene, PATIENT_MILLISECONDS)
        marks.end()


async def _be_patient(scene: Scene, milliseconds: int) -> None:
    """How long the node waits for an acknowledgement, from now on. Channels ask when they are opened."""
    for name, value in (("consumer_timeout", milliseconds), ("channel_tick_interval", TICK_MILLISECONDS)):
        await scene.broker.control("eval", f"application:set_env(rabbit, {name}, {value}).")
    await scene.broker.control("close_all_connections", "chaos")


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
        Kind("consumer-timeout", ("notification_service",), (9, 10), 10),
        "RabbitMQ loses patience with a consumer that keeps a delivery",
        consumer_timeout,
    ),
)

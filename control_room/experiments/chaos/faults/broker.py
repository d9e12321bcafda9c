"""Faults of the broker: its process, its resources, its connections and its consumer timeout."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from control_room.experiments.chaos.faults.databases import locked
from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import SERVICES, RunningSystem, SystemUnderTest
from control_room.operations.roles import NOTIFICATIONS

NODE = ("rabbitmq",)
CONNECTIONS = "order_rail_broker_connections_opened_total"
MEMORY_LIMIT, DISK_LIMIT = "1GB", "50MB"
"""As the private node is configured."""
MORE_DISK_THAN_THERE_IS = "100000000000000000"
SHORT_TIMEOUT_MILLISECONDS, DEFAULT_TIMEOUT_MILLISECONDS = 2000, 1_800_000
TICK_MILLISECONDS = 500
"""How often the node looks for deliveries that a consumer has kept for too long; its default is a minute."""


@fault("broker-kill", NODE, lasts_seconds=(0.5, 4), allowance_seconds=15)
async def broker_kill(system: SystemUnderTest, injection: Injection) -> None:
    """SIGKILL to RabbitMQ, and its start."""
    await system.until_node_may_be_killed()
    await _replaced(system, injection, system.broker.kill)


@fault("broker-restart", NODE, lasts_seconds=(0.5, 4), allowance_seconds=15)
async def broker_restart(system: SystemUnderTest, injection: Injection) -> None:
    """RabbitMQ stopped in order, and started."""
    await _replaced(system, injection, system.broker.stop)


async def _replaced(system: SystemUnderTest, injection: Injection, stop: Callable[[], Any]) -> None:
    pid = system.broker.pid
    await unreachable(system, injection, stop, system.broker.start)
    injection.saw(f"process {pid} is gone, process {system.broker.pid} runs")


@fault("broker-freeze", NODE, lasts_seconds=(0.5, 4), allowance_seconds=18)
async def broker_freeze(system: SystemUnderTest, injection: Injection) -> None:
    """SIGSTOP to RabbitMQ until its clients miss its heartbeats, then SIGCONT."""
    await unreachable(system, injection, system.broker.suspend, system.broker.resume)


async def unreachable(
    system: SystemUnderTest, injection: Injection, stop: Callable[[], Any], restore: Callable[[], Any]
) -> None:
    """No service reaches RabbitMQ between `stop` and `restore`: until each says so, and for the planned time."""
    injection.saw(f"{await system.orders_in_flight()} when RabbitMQ went away")
    async with injection.applied(stop, restore):
        injection.saw(await system.until_unready("RabbitMQ is away", "not consuming"))
        await asyncio.sleep(injection.seconds)


@fault("memory-alarm", NODE, lasts_seconds=(2, 6), allowance_seconds=12)
async def memory_alarm(system: SystemUnderTest, injection: Injection) -> None:
    """RabbitMQ is out of memory and blocks publishers."""
    command = ("set_vm_memory_high_watermark", "absolute")
    await _alarm(system, injection, "mem_alarm", (*command, "1MB"), (*command, MEMORY_LIMIT))


@fault("disk-alarm", NODE, lasts_seconds=(2, 6), allowance_seconds=12)
async def disk_alarm(system: SystemUnderTest, injection: Injection) -> None:
    """RabbitMQ is out of disk and blocks publishers."""
    command = "set_disk_free_limit"
    await _alarm(system, injection, "disk_free_alarm", (command, MORE_DISK_THAN_THERE_IS), (command, DISK_LIMIT))


async def _alarm(
    system: SystemUnderTest, injection: Injection, alarm: str, begin: tuple[str, ...], end: tuple[str, ...]
) -> None:
    control = system.broker.control
    async with injection.applied(lambda: control(*begin), lambda: control(*end)):
        await system.until(
            lambda: system.client.management.find("nodes"),
            f"{alarm} in the management API",
            is_seen=lambda nodes: any(node.get(alarm) for node in nodes),
        )
        await system.until(
            system.client.unready,
            "a service to say that RabbitMQ blocks publishers",
            is_seen=lambda problems: any("blocks publishers" in problem for problem in problems.values()),
        )
        await asyncio.sleep(injection.seconds)
    injection.saw(f"the management API showed {alarm}; services said in /readyz that RabbitMQ blocked publishers")


@fault("connections-closed", SERVICES, allowance_seconds=6)
async def connections_closed(system: RunningSystem, injection: Injection) -> None:
    """All AMQP connections of a service closed by the broker."""
    service = injection.target
    before = await system.counter(service, CONNECTIONS)
    names = await system.until(lambda: system.connections(service), f"connections of {service} in the management API")
    with injection.active():
        await asyncio.gather(*(system.client.management.delete("connections", name) for name in names))
    after = await system.counter(service, CONNECTIONS, {}, before + len(names))
    injection.saw(f"{len(names)} connections were closed, and {after - before:g} opened again")


@fault("consumer-timeout", (NOTIFICATIONS.name,), lasts_seconds=(9, 10), allowance_seconds=10)
async def consumer_timeout(system: SystemUnderTest, injection: Injection) -> None:
    """RabbitMQ closes the channel of a consumer that keeps a delivery for too long: its database is locked."""
    log = system.process(injection.target).log

    def timeouts() -> int:
        return log.read_text(errors="replace").count("timed out")

    before = timeouts()
    set_timeout = partial(_set_consumer_timeout, system)
    async with (
        injection.applied(
            lambda: set_timeout(SHORT_TIMEOUT_MILLISECONDS), lambda: set_timeout(DEFAULT_TIMEOUT_MILLISECONDS)
        ),
        locked(system, injection.target),
    ):
        closed = system.until(lambda: timeouts() > before, f"RabbitMQ to close a channel of {injection.target}")
        await asyncio.gather(closed, asyncio.sleep(injection.seconds))
        injection.saw(f"RabbitMQ closed a channel on which {injection.target} kept a delivery for too long")


async def _set_consumer_timeout(system: SystemUnderTest, milliseconds: int) -> None:
    """A channel reads it when it is opened, so that all connections are closed."""
    for name, value in (("consumer_timeout", milliseconds), ("channel_tick_interval", TICK_MILLISECONDS)):
        await system.broker.control("eval", f"application:set_env(rabbit, {name}, {value}).")
    await system.broker.control("close_all_connections", "chaos")

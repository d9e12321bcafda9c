"""Faults of the services where they run in containers."""

import asyncio
from collections.abc import Callable
from typing import Any

from control_room.experiments.chaos.containers import ComposedSystem
from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import SERVICES

SILENCE_SECONDS = 40.0
"""How long RabbitMQ may take to close the connections of a service that says nothing any more."""


@fault("kill", SERVICES, lasts_seconds=(0.5, 3), allowance_seconds=12)
async def kill(system: ComposedSystem, injection: Injection) -> None:
    """SIGKILL to a service's container, and its start."""
    await _ended(system, injection, system.containers[injection.target].kill, "killed")


@fault("stop", SERVICES, lasts_seconds=(0.5, 3), allowance_seconds=20)
async def stop(system: ComposedSystem, injection: Injection) -> None:
    """A service's container stopped in order, and started."""
    await _ended(system, injection, system.containers[injection.target].stop, "stopped")


async def _ended(system: ComposedSystem, injection: Injection, end: Callable[[], Any], how: str) -> None:
    container = system.containers[injection.target]
    pid = container.pid
    injection.saw(f"{await system.orders_in_flight()} when it was {how}")
    async with injection.applied(end, container.start):
        await asyncio.sleep(injection.seconds)
    injection.saw(f"process {pid} is gone, process {container.pid} runs")


@fault("freeze", SERVICES, lasts_seconds=(0.5, 3), allowance_seconds=40)
async def freeze(system: ComposedSystem, injection: Injection) -> None:
    """A service's container paused until RabbitMQ has closed its connections."""
    container = system.containers[injection.target]
    before: set[str] = await system.until(
        lambda: system.connections(injection.target), f"connections of {injection.target}"
    )

    async def left() -> set[str]:
        return before & await system.connections(injection.target)

    async with injection.applied(container.suspend, container.resume):
        await system.until(left, "its connections to be closed", SILENCE_SECONDS, is_seen=lambda names: not names)
        await asyncio.sleep(injection.seconds)
    injection.saw(f"RabbitMQ closed its {len(before)} connections for want of heartbeats")

"""Faults of the services' processes."""

import asyncio
import os
import signal

import psutil

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import HEARTBEAT_SECONDS, SERVICES, NoEvidence, SystemUnderTest

STOP_WITHIN_SECONDS = 10.0


@fault("kill", SERVICES, allowance_seconds=4)
async def kill(system: SystemUnderTest, injection: Injection) -> None:
    """SIGKILL to a service, which the launcher starts again."""
    await _end(system, injection, signal.SIGKILL, expected_status=-signal.SIGKILL)


@fault("freeze", SERVICES, lasts_seconds=(3 * HEARTBEAT_SECONDS, 4 * HEARTBEAT_SECONDS), allowance_seconds=8)
async def freeze(system: SystemUnderTest, injection: Injection) -> None:
    """SIGSTOP to a service for longer than the heartbeat, then SIGCONT."""
    pid = system.process(injection.target).pid
    before = await system.until(lambda: system.connections(injection.target), f"connections of {injection.target}")
    injection.saw(f"{await system.orders_in_flight()} when it was frozen")
    with injection.active(), system.frozen(injection.target):
        await asyncio.sleep(injection.seconds)
        state = psutil.Process(pid).status()
        left = before & await system.connections(injection.target)
    if state != psutil.STATUS_STOPPED or left:
        raise NoEvidence(f"process {pid} was {state}, and {len(left)} of its {len(before)} connections were left")
    injection.saw(f"process {pid} was {state}; RabbitMQ closed its {len(before)} connections for want of heartbeats")


@fault("stop", SERVICES, allowance_seconds=10)
async def stop(system: SystemUnderTest, injection: Injection) -> None:
    """SIGTERM to a service, which the launcher starts again."""
    await _end(system, injection, signal.SIGTERM, expected_status=0)


async def _end(system: SystemUnderTest, injection: Injection, number: signal.Signals, expected_status: int) -> None:
    """Signal the process and wait until another runs in its place."""
    process, pid = system.process(injection.target), system.process(injection.target).pid
    injection.saw(f"{await system.orders_in_flight()} when it was sent {number.name}")
    with injection.active():
        os.kill(pid, number)
        await system.until(
            lambda: process.pid != pid or process.exit_status is not None,
            f"{process.name} to end",
            STOP_WITHIN_SECONDS + 2,
        )
    await system.until(lambda: process.pid != pid, f"{process.name} to be started again")
    injection.saw(f"process {pid} ended with status {process.last_exit_status}, process {process.pid} took its place")
    if process.last_exit_status != expected_status:
        raise NoEvidence(f"{process.name} ended with status {process.last_exit_status}, expected {expected_status}")

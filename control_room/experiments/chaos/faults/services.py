"""Faults of the services' processes."""

import asyncio
import os
import signal
from contextlib import suppress

import psutil

from control_room.experiments.chaos.faults.scene import HEARTBEAT_SECONDS, Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.launcher.system import SERVICES

STOP_WITHIN_SECONDS = 10.0


async def kill(scene: Scene, fall: Fall, marks: Marks) -> None:
    """SIGKILL; the launcher starts it again."""
    marks.saw(f"{await scene.orders_in_flight()} when it was killed")
    status = await _end(scene, fall.target, signal.SIGKILL, marks)
    if status != -signal.SIGKILL:
        raise NoEvidence(f"{fall.target} ended with status {status}, expected {-signal.SIGKILL}")


async def stop(scene: Scene, fall: Fall, marks: Marks) -> None:
    """SIGTERM; the launcher starts it again."""
    marks.saw(f"{await scene.orders_in_flight()} when it was asked to stop")
    status = await _end(scene, fall.target, signal.SIGTERM, marks)
    if status != 0:
        raise NoEvidence(f"{fall.target} ended with status {status} within {STOP_WITHIN_SECONDS:g} s, expected 0")


async def _end(scene: Scene, service: str, number: signal.Signals, marks: Marks) -> int | None:
    """Signal the process, wait until another runs in its place; how the first one ended."""
    process = scene.process(service)
    pid = process.pid
    marks.begin()
    try:
        os.kill(pid, number)

        async def has_ended() -> bool:
            return process.pid != pid or process.exit_status is not None

        await scene.until(has_ended, f"{service} to end", STOP_WITHIN_SECONDS + 2)
    finally:
        marks.end()

    async def runs_again() -> bool:
        return process.pid != pid

    await scene.until(runs_again, f"{service} to be started again")
    marks.saw(f"process {pid} ended with status {process.last_exit_status}, process {process.pid} took its place")
    return process.last_exit_status


async def freeze(scene: Scene, fall: Fall, marks: Marks) -> None:
    """SIGSTOP for longer than RabbitMQ waits for a heartbeat, then SIGCONT."""
    pid = scene.process(fall.target).pid
    before = await scene.until(lambda: _connections(scene, fall.target), f"connections of {fall.target}")
    marks.saw(f"{await scene.orders_in_flight()} when it was frozen")
    marks.begin()
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(fall.seconds)
        state = psutil.Process(pid).status()
        left = before & await _connections(scene, fall.target)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        marks.end()
    if state != psutil.STATUS_STOPPED or left:
        raise NoEvidence(f"process {pid} was {state}, and {len(left)} of its {len(before)} connections were left")
    marks.saw(f"process {pid} was {state}; RabbitMQ closed its {len(before)} connections for want of heartbeats")


async def _connections(scene: Scene, service: str) -> set[str]:
    """The AMQP connections of a service, by the broker's names for them."""
    found = await scene.management.find("connections") or []
    return {
        each["name"]
        for each in found
        if str(each.get("client_properties", {}).get("connection_name", "")).startswith(service)
    }


FAULTS = (
    Fault(Kind("kill", SERVICES, (0, 0), 4), "SIGKILL to a service", kill),
    Fault(
        Kind("freeze", SERVICES, (3 * HEARTBEAT_SECONDS, 4 * HEARTBEAT_SECONDS), 8),
        "SIGSTOP to a service for longer than the heartbeat, then SIGCONT",
        freeze,
    ),
    Fault(Kind("stop", SERVICES, (0, 0), 10), "SIGTERM to a service", stop),
)

"""Deaths between two steps that belong together, patched into the service's process by `chaos/crash.py`."""

import os
import signal
import sys
import time

from control_room.experiments.chaos.crash import DIED
from control_room.experiments.chaos.faults.scene import Fault, Marks, NoEvidence, Scene
from control_room.experiments.chaos.schedule import Fall, Kind
from control_room.launcher.processes import SupervisedProcess

POINTS = {
    "committed-not-answered": ("order_service", "order_service.api:_accepted"),
    "published-not-forgotten": ("order_service", "shared.persistence.outbox:Outbox.forget"),
    "charged-not-committed": ("payment_service", "shared.effects:Once._record"),
    "committed-not-acknowledged": ("payment_service", "shared.messaging.channel:Channel.ack"),
    "sent-not-committed": ("notification_service", "shared.effects:Once._record"),
    "tracked-not-acknowledged": ("order_service", "shared.messaging.channel:Channel.ack"),
}
"""By what was done and what was not: the service, and the call before which it dies."""


async def crash(scene: Scene, fall: Fall, marks: Marks) -> None:
    """The service is started again so that it dies at that point, once."""
    service, call = POINTS[fall.target]
    process, flag = scene.process(service), scene.system.run.path / f"crash-{time.monotonic_ns()}"
    await _start_armed(
        scene, process, [sys.executable, "-m", "control_room.experiments.chaos.crash", service, call, str(flag)]
    )
    marks.begin()
    try:

        async def is_dead() -> bool:
            return flag.exists() and process.last_exit_status == DIED

        await scene.until(is_dead, f"{service} to die before {call}")
    finally:
        marks.end()
    marks.saw(f"{service} died before its first call of {call}; {await scene.orders_in_flight()}")


async def _start_armed(scene: Scene, process: SupervisedProcess, command: list[str]) -> None:
    """The command counts for one start only."""
    plain, pid = process.command, process.pid
    process.command = command
    try:
        os.kill(pid, signal.SIGTERM)

        async def has_started() -> bool:
            return process.pid != pid

        await scene.until(has_started, f"{process.name} to be started again")
    finally:
        process.command = plain
    if process.last_exit_status != 0:
        raise NoEvidence(f"{process.name} ended with status {process.last_exit_status} when it was asked to stop")


FAULTS = (Fault(Kind("crash", tuple(POINTS), (0, 0), 8), "Death between two steps that belong together", crash),)

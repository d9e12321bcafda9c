"""Crashes between two steps that belong together, patched into the service's process by `launcher/crash.py`."""

import time
from collections.abc import Iterator

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import NoEvidence, SystemUnderTest
from control_room.launcher.crash import DIED, crashing
from control_room.operations.roles import NOTIFICATIONS, PAYMENTS
from shared.contract import services

ACKNOWLEDGE = "shared.messaging.channel:Channel.ack"
RECORD = "shared.effects:Once._record"
FORGET = "shared.persistence.outbox:Outbox.forget"


def _crash_points() -> Iterator[tuple[str, str, str]]:
    """The service, the name and the call of each crash point."""
    for contract in services():
        yield contract.name, "before-ack", ACKNOWLEDGE
        if contract.publishes:
            yield contract.name, "before-outbox-forget", FORGET
        for name, call in contract.crash_points.items():
            yield contract.name, name, call
    for contract in (PAYMENTS, NOTIFICATIONS):  # whose effect is outside: a charge, a mail
        yield contract.name, "before-record", RECORD


CRASH_POINTS = {f"{service} {name}": (service, call) for service, name, call in _crash_points()}
"""By target: the service, and the call before which it dies."""


@fault("crash", tuple(CRASH_POINTS), allowance_seconds=8)
async def crash(system: SystemUnderTest, injection: Injection) -> None:
    """Death between two steps that belong together."""
    service, call = CRASH_POINTS[injection.target]
    process, flag = system.process(service), system.system.run.path / f"crash-{time.monotonic_ns()}"
    plain = process.command
    process.command = crashing(service, call, flag)
    try:
        await system.restart(service)
    finally:
        process.command = plain
    if process.last_exit_status != 0:
        raise NoEvidence(f"{service} ended with status {process.last_exit_status} when it was asked to stop")
    with injection.active():
        await system.until(
            lambda: flag.exists() and process.last_exit_status == DIED, f"{service} to die before {call}"
        )
    injection.saw(f"{service} died before its first call of {call}; {await system.orders_in_flight()}")

"""Fault injection into the processes of a running system: one that dies at a call, one that stands still."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from control_room.launcher.crash import DIED, crashing
from control_room.launcher.system import System
from shared.testing.waiting import eventually


async def restarted_to_die(system: System, service: str, call: str, flag: Path) -> Callable[[], Awaitable[None]]:
    """Restart a service so that it is killed just before its first call of `module:attribute`, and started again.

    It creates the file `flag` as it dies. What is returned waits until that has happened.
    """
    process = system.processes[service]
    process.command = crashing(service, call, flag)
    await process.restart()

    async def has_died() -> None:
        await eventually(flag.exists, 30, f"{service} to reach {call}")
        await eventually(lambda: process.last_exit_status == DIED, 20, f"{service} to be started again")

    return has_died


@contextmanager
def frozen(system: System, service: str) -> Iterator[None]:
    """The process of a service stands still until the block ends."""
    process = system.processes[service]
    process.freeze()
    try:
        yield
    finally:
        process.thaw()

"""Kills, pauses, slows down and resumes services on purpose.

`ProcessControl` is the port. Its adapters: `launcher.py` signals the processes that the launcher started, `exchange.py`
sends commands to services that run with `CONTROLS_ENABLED=true`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol


class ProcessState(StrEnum):
    """What process control last did to a service, until that is undone or the process has ended."""

    RUNNING = "running"
    DOWN = "down"
    """Killed, and not restarted before `start`."""
    PAUSED = "paused"
    SLOW = "slow"


class ControlFailed(Exception):
    """The command could not be carried out; the message says why, and what to do."""


class ProcessControl(Protocol):
    """Each command names a service and raises ControlFailed if it can't be carried out.

    `meanings` explains "kill", "pause" and "slow" to the viewer: they differ from adapter to adapter.
    `can_hold_down`: whether a killed service can be kept from being restarted.
    """

    meanings: Mapping[str, str]
    can_hold_down: bool

    def state(self, service: str) -> ProcessState:
        """The state now; RUNNING for a process that has replaced a paused one."""
        ...

    async def kill(self, service: str, *, hold_down: bool = False) -> None:
        """End it with SIGKILL. It is restarted at once, or with `hold_down` after `start`."""
        ...

    async def start(self, service: str) -> None:
        """Let a service that is held down be restarted."""
        ...

    async def pause(self, service: str) -> None:
        """Make it do nothing until `resume`."""
        ...

    async def slow(self, service: str) -> None:
        """Make it work much more slowly until `resume`."""
        ...

    async def resume(self, service: str) -> None:
        """End a pause or a slow-down."""
        ...

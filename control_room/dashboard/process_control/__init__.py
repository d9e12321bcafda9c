"""Kills, pauses, slows down and resumes services on purpose.

`ProcessControl` is the port. Its adapters: `launcher.py` signals the processes that the launcher started, `exchange.py`
sends commands to services that run with `CONTROLS_ENABLED=true`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol


class ProcessState(StrEnum):
    """What was last done to a service, as far as it still holds."""

    RUNNING = "running"
    DOWN = "down"
    """Killed, and held down until `start`."""
    PAUSED = "paused"
    SLOW = "slow"


class ControlFailed(Exception):
    """It could not be done; the message says why, and what to do."""


class ProcessControl(Protocol):
    """Every call names a service, and raises ControlFailed.

    `meanings` says in a sentence what each of "kill", "pause" and "slow" does here, since the ways differ.
    `can_hold_down`: whether a killed service can be kept from coming back.
    """

    meanings: Mapping[str, str]
    can_hold_down: bool

    def state(self, service: str) -> ProcessState:
        """What holds now; a service that died and came back by itself is running."""
        ...

    async def kill(self, service: str, *, hold_down: bool = False) -> None:
        """End it as `kill -9` does. It comes back by itself, or with `hold_down` when `start` is called."""
        ...

    async def start(self, service: str) -> None:
        """Let a service that is held down come back."""
        ...

    async def pause(self, service: str) -> None:
        """Let it do nothing until `resume`."""
        ...

    async def slow(self, service: str) -> None:
        """Let it work a good deal slower until `resume`."""
        ...

    async def resume(self, service: str) -> None:
        """End a pause or a slow-down."""
        ...

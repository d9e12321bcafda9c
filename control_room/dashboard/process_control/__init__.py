"""Kills, pauses, slows down and resumes services on purpose.

`ProcessControl` is the port. Its adapters: `launcher.py` signals the processes that the launcher started, `exchange.py`
sends commands to services that run with `CONTROLS_ENABLED=true`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol


class Action(StrEnum):
    """What can be done to a service; the value is the label of its button."""

    KILL = "kill"
    """SIGKILL; it is restarted at once."""
    KEEP_DOWN = "kill, keep down"
    """SIGKILL; it is restarted after START."""
    START = "start"
    PAUSE = "pause"
    """It does nothing until RESUME."""
    SLOW = "slow"
    """It works much more slowly until RESUME."""
    RESUME = "resume"


class ProcessState(StrEnum):
    """The effect of the last action, until that is undone or the process has ended."""

    RUNNING = "running"
    DOWN = "down"
    PAUSED = "paused"
    SLOW = "slow"


class ControlFailed(Exception):
    """The action could not be carried out; the message says why, and what to do."""


class ProcessControl(Protocol):
    """`actions` are those that are possible here, each with an explanation for the viewer where it needs one."""

    actions: Mapping[Action, str]

    def state(self, service: str) -> ProcessState:
        """The state now; RUNNING for a process that has replaced a paused one."""
        ...

    async def apply(self, action: Action, service: str) -> None:
        """Carry out one of `actions`; returns once it has its effect. Raises ControlFailed."""
        ...

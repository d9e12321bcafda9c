"""What carries the messages: a server of the lab's own, and the lab's look into its queues."""

from collections.abc import Sequence
from typing import Protocol, Self

from control_room.experiments.lab.ways import Way


class System(Protocol):
    """Its methods raise `LaunchError`, `LabFailed` or what its client raises."""

    url: str
    is_safe_after_seconds: float
    """How old its queues must be before it may be killed."""
    gives_ahead: bool
    """Whether a consumer is given several messages, and works on one."""
    give_up_seconds: float
    """Orders wait, and nothing happens: after so long they are stuck. The right way pauses for less than that."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...

    @property
    def pid(self) -> int: ...
    def freeze(self) -> None: ...
    async def restart(self) -> None:
        """Kill it, frozen or not, and start it again with what it has on disk."""
        ...

    async def queues_of(self, way: Way) -> Sequence[str]:
        """All of a way; those of its dead letters end in `.dead`, those of its retries have `.retry.` in them."""
        ...

    async def put_rubbish(self, queue: str) -> None: ...
    async def is_consumed(self, queue: str) -> bool: ...
    async def kept(self, queue: str) -> int:
        """Messages in it that no consumer has."""
        ...

    async def is_waiting(self, queue: str) -> bool:
        """Whether there are messages that somebody is still to be given."""
        ...

    async def left_in(self, queue: str) -> list[int]:
        """The orders in it, once nobody consumes any more."""
        ...

"""Which dead letters a command means."""

from collections.abc import Sequence
from dataclasses import dataclass

from control_room.operations.dead_letters.letter import DeadLetter
from control_room.operations.dead_letters.parked import QUEUES


@dataclass(frozen=True)
class Selection:
    """All conditions that are given must hold. `queue` is the one that the messages were going to."""

    id: str | None = None
    cause: str | None = None
    queue: str | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        return self.id in (None, letter.id) and self.cause in (None, letter.reason)

    @property
    def queues(self) -> Sequence[str]:
        """The queues whose dead letters may be meant."""
        return QUEUES if self.queue is None else (self.queue,)


def queue_named(name: str) -> str:
    """The queue that a person means, who may name it with `.dead` or without. Raises ValueError."""
    queue = name.removesuffix(".dead")
    if queue not in QUEUES:
        raise ValueError(f"there is no queue {name!r}; expected one of {', '.join(QUEUES)}")
    return queue

"""Which dead letters a command means, and their summary by queue and cause."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.parked import Held, dead_letters
from shared import contract
from shared.messaging.connection import Connection


@dataclass(frozen=True)
class Selection:
    """All conditions that are given must hold. `queue` is the one that the messages were for."""

    id: str | None = None
    cause: str | None = None
    queue: str | None = None

    def __contains__(self, dead_letter: DeadLetter) -> bool:
        return self.id in (None, dead_letter.id) and self.cause in (None, dead_letter.reason)

    @property
    def queues(self) -> Sequence[str]:
        """The queues to search."""
        return tuple(contract.queues()) if self.queue is None else (self.queue,)


@dataclass
class Group:
    """The dead letters of one queue with one cause; `first` are some of them, oldest first."""

    queue: str
    cause: str
    count: int = 0
    most_attempts: int = 0
    oldest: datetime | None = None
    first: list[DeadLetter] = field(default_factory=list)

    def add(self, dead_letter: DeadLetter, shown: int) -> None:
        """Count it, and keep it if there are fewer than `shown` so far."""
        self.count += 1
        self.most_attempts = max(self.most_attempts, dead_letter.attempts)
        if dead_letter.parked_at is not None:
            self.oldest = min(self.oldest or dead_letter.parked_at, dead_letter.parked_at)
        if len(self.first) < shown:
            self.first.append(dead_letter)


def queue_named(name: str) -> str:
    """The queue of this name, with `.dead` at its end or without. Raises ValueError."""
    queue = name.removesuffix(".dead")
    if queue not in contract.queues():
        raise ValueError(f"there is no queue {name!r}; expected one of {', '.join(contract.queues())}")
    return queue


async def selected(connection: Connection, selection: Selection) -> AsyncGenerator[Held]:
    """Each selected dead letter, queue by queue; memory stays bounded. Raises BrokerUnavailable."""
    for queue in selection.queues:
        async with dead_letters(connection, queue) as found:
            async for held in found:
                if held.dead_letter in selection:
                    yield held


async def groups(connection: Connection, selection: Selection, shown: int) -> list[Group]:
    """Every group, each with at most `shown` dead letters. Changes nothing. Raises BrokerUnavailable."""
    found: dict[tuple[str, str], Group] = {}
    async for held in selected(connection, selection):
        key = (held.dead_letter.queue, held.dead_letter.reason)
        found.setdefault(key, Group(*key)).add(held.dead_letter, shown)
    return list(found.values())

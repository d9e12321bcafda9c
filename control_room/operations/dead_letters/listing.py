"""Dead letters by queue and cause: a summary that stays small however many there are."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from control_room.operations.dead_letters.letter import DeadLetter
from control_room.operations.dead_letters.parked import dead_letters
from control_room.operations.dead_letters.selection import Selection
from control_room.text import duration
from shared.messaging.connection import Connection


@dataclass
class Group:
    """The dead letters of one queue with one cause; `first` holds some of them, the oldest."""

    queue: str
    cause: str
    count: int = 0
    most_attempts: int = 0
    oldest: datetime | None = None
    first: list[DeadLetter] = field(default_factory=list)

    def add(self, letter: DeadLetter, shown: int) -> None:
        """Count it, and keep it if there is room."""
        self.count += 1
        self.most_attempts = max(self.most_attempts, letter.attempts)
        if letter.parked_at is not None:
            self.oldest = min(self.oldest or letter.parked_at, letter.parked_at)
        if len(self.first) < shown:
            self.first.append(letter)


async def groups(connection: Connection, selection: Selection, shown: int) -> list[Group]:
    """Every group, with at most `shown` letters of each. Removes and reorders nothing. Raises BrokerUnavailable."""
    found: dict[tuple[str, str], Group] = {}
    for queue in selection.queues:
        async with dead_letters(connection, queue) as letters:
            async for held in letters:
                if held.letter in selection:
                    key = (queue, held.letter.reason)
                    found.setdefault(key, Group(*key)).add(held.letter, shown)
    return list(found.values())


def age(since: datetime | None) -> str:
    """Such as `3 min 20 s`; empty if unknown."""
    return "" if since is None else duration(max(0.0, (datetime.now(UTC) - since).total_seconds()))

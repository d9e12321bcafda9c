"""Moot dead letters: a redrive would change nothing, and nobody has to decide. There are none here.

In a system in which work can be called off meanwhile, `statuses_of` asks what became of the subjects of dead letters,
and `why_moot` says it.
"""

from collections.abc import Iterable, Mapping

from control_room.operations.addresses import SystemAddresses
from control_room.operations.dead_letters.dead_letter import DeadLetter


def why_moot(dead_letter: DeadLetter, statuses: Mapping[str, str]) -> str:
    """A few words if it is moot, given the statuses of subjects; else nothing."""
    return ""


async def statuses_of(system: SystemAddresses, dead_letters: Iterable[DeadLetter]) -> dict[str, str]:
    """The statuses, by id, of the subjects that decide whether these are moot; those that could be read."""
    return {}

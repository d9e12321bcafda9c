"""The order in which an order's story is told, though the services' clocks may disagree by any amount.

What one service did is told in the order of its own clock. Between services the cause comes first, and where neither
is the other's cause, the clocks decide.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Act = Literal["happened", "published", "handled", "set aside"]


@dataclass(frozen=True)
class Entry:
    """Something that happened. `state`: fine, busy (it will be tried again) or broken.

    `clock`: the service by whose clock it happened `at`. `event`: the type of the event that it is about, if any. This
    `happened` (so says the order's timeline), or a message with it was `published`, `handled` or `set aside`.
    """

    at: datetime
    who: str
    what: str
    state: str = "fine"
    clock: str = ""
    event: str = ""
    act: Act = "happened"


def in_order(timeline: Sequence[Entry], others: Iterable[Entry]) -> list[Entry]:
    """All entries, causes before effects. Those of the timeline keep the order that they come in."""
    entries = [*timeline, *others]
    chains = _by_clock(entries)
    causes = {id(entry): _causes(entry, entries) for entry in entries}
    told: list[Entry] = []
    known: set[int] = set()
    while heads := [chain[0] for chain in chains if chain]:
        ready = [head for head in heads if causes[id(head)] <= known]
        entry = min(ready or heads, key=lambda each: each.at)
        next(chain for chain in chains if chain and chain[0] is entry).pop(0)
        told.append(entry)
        known.add(id(entry))
    return told


def _by_clock(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Each service's entries by its own clock. Those of the timeline stay in order, also where it was put back."""
    chains: Mapping[str, list[tuple[datetime, Entry]]] = defaultdict(list)
    for entry in entries:
        chain = chains[entry.clock]
        is_put_back = entry.act == "happened" and chain and chain[-1][0] > entry.at
        chain.append((chain[-1][0] if is_put_back else entry.at, entry))
    return [[entry for _, entry in sorted(chain, key=lambda each: each[0])] for chain in chains.values()]


def _causes(entry: Entry, entries: Sequence[Entry]) -> set[int]:
    """What must be told before: for an entry of the timeline those before it, for a message that it was sent."""
    if entry.act == "happened":
        before = entries[: next(place for place, each in enumerate(entries) if each is entry)]
        return {id(each) for each in before if each.act == "happened"}
    sender = sender_of(entry.event)
    if entry.clock == sender:
        return set()
    sent = [each for each in entries if each.event == entry.event and each.clock == sender]
    first = {act: next((each for each in sent if each.act == act), None) for act in ("happened", "published")}
    return {id(each) for each in first.values() if each is not None}


def sender_of(event: str) -> str:
    """The service that publishes events of this type."""
    return f"{event.partition('.')[0]}_service"

"""Sorts what happened to an order by cause, though the services' clocks may disagree by any amount.

What one service did stays in the order of its own clock. Between services a cause comes before its effect; where
neither is the other's cause, the clocks decide.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.contract import patterns, service, services

Act = Literal["happened", "published", "handled", "set aside"]


@dataclass(frozen=True)
class Entry:
    """Something that happened. `state`: fine, busy (it will be tried again) or broken.

    `source`: where we know it from. `clock`: the service by whose clock it happened `at`. `event`: the type of the
    event that it is about, if any. This `happened` (according to the order's timeline), or a message with it was
    `published`, `handled` or `set aside`.
    """

    at: datetime
    source: str
    what: str
    state: str = "fine"
    clock: str = ""
    event: str = ""
    act: Act = "happened"


def in_order(timeline: Sequence[Entry], others: Iterable[Entry]) -> list[Entry]:
    """All entries, causes before effects. Those of the timeline keep the order that they are given in."""
    entries = [*timeline, *others]
    chains = _by_clock(entries)
    causes = {id(entry): _causes(entry, entries) for entry in entries}
    ordered: list[Entry] = []
    done: set[int] = set()
    while heads := [chain[0] for chain in chains if chain]:
        ready = [head for head in heads if causes[id(head)] <= done]
        entry = min(ready or heads, key=lambda each: each.at)
        next(chain for chain in chains if chain and chain[0] is entry).pop(0)
        ordered.append(entry)
        done.add(id(entry))
    return ordered


def publisher_of(event: str) -> str:
    """The service that publishes events that begin as this type does, such as `payment.`; empty if none does."""
    topic = event.partition(".")[0]
    families = {each.family().partition(".")[0]: owner.name for owner in services() for each in owner.publishes}
    return families.get(topic, "")


def _by_clock(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Each service's entries by its own clock. Those of the timeline stay in order, even if the clock was set back."""
    chains: Mapping[str, list[tuple[datetime, Entry]]] = defaultdict(list)
    for entry in entries:
        chain = chains[entry.clock]
        was_set_back = entry.act == "happened" and chain and chain[-1][0] > entry.at
        chain.append((chain[-1][0] if was_set_back else entry.at, entry))
    return [[entry for _, entry in sorted(chain, key=lambda each: each[0])] for chain in chains.values()]


def _causes(entry: Entry, entries: Sequence[Entry]) -> set[int]:
    """For an entry of the timeline those before it; for a message that its event happened and was published."""
    if entry.act == "happened":
        before = entries[: next(place for place, each in enumerate(entries) if each is entry)]
        timeline = [each for each in before if each.act == "happened"]
        return {id(each) for each in (*timeline, *_answered(entry, timeline, entries))}
    publisher = publisher_of(entry.event)
    if entry.clock == publisher:
        return set()
    own = [each for each in entries if each.event == entry.event and each.clock == publisher]
    first = {act: next((each for each in own if each.act == act), None) for act in ("happened", "published")}
    return {id(each) for each in first.values() if each is not None}


def _answered(entry: Entry, before: Sequence[Entry], entries: Sequence[Entry]) -> list[Entry]:
    """The publish of the event that made a service do this: the latest one before that it takes."""
    if not before or entry.clock in ("", before[0].clock):  # what begins an order, and what its customer does later
        return []
    taken = [each for each in before if _takes(entry.clock, each)]
    published = (each for each in entries if taken and each.act == "published" and each.event == taken[-1].event)
    return [each for each in published if each.clock == taken[-1].clock][:1]


def _takes(service_name: str, event: Entry) -> bool:
    exchange = service(event.clock).exchange if event.clock else ""
    queues = service(service_name).queues
    return any(each.exchange == exchange and each.matches(event.event) for queue in queues for each in patterns(queue))

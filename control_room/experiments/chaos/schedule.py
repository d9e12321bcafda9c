"""Which fault is injected when, on what, and for how long: drawn from a seed, the same each time. No I/O."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from control_room.experiments.chaos.faults.fault import Fault, Injection

WARM_UP_SECONDS, WARM_UP_SHARE = 12.0, 0.15
"""No fault is injected so early, or in so early a part of a short load."""


def draw(faults: Iterable[Fault[Any]], load_seconds: float, seed: int) -> list[Injection]:
    """The injections of one run, none overlapping, as many as fit into `load_seconds`; at least one.

    They are dealt like cards: each fault on each of its targets once, in random order, then all anew. What does not fit
    any more is left out.
    """
    dice = random.Random(seed)
    cards = [(fault, target) for fault in faults for target in fault.targets]
    drawn: list[Injection] = []
    at = min(WARM_UP_SECONDS, WARM_UP_SHARE * load_seconds)
    while True:
        before = len(drawn)
        for fault, target in _shuffled(cards, dice):
            seconds = round(dice.uniform(*fault.lasts_seconds), 1)
            end = at + seconds + fault.allowance_seconds
            if not drawn or end <= load_seconds:
                drawn.append(Injection(fault.name, target, round(at, 1), seconds))
                at = end + dice.uniform(0.5, 2.0)
        if len(drawn) == before:
            return drawn


def _shuffled(cards: Sequence[tuple[Fault[Any], str]], dice: random.Random) -> list[tuple[Fault[Any], str]]:
    """In random order, but every fault has its first turn before any has its second."""
    turns: Counter[str] = Counter()
    numbered = []
    for fault, target in dice.sample(cards, len(cards)):
        turns[fault.name] += 1
        numbered.append((turns[fault.name], fault, target))
    return [(fault, target) for _, fault, target in sorted(numbered, key=lambda card: card[0])]


def chosen(names: str, faults: Mapping[str, Fault[Any]]) -> list[Fault[Any]]:
    """The faults of a comma-separated list; all of them for an empty one. Raises ValueError that names the unknown."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in listed if name not in faults]:
        raise ValueError(f"no fault is called {', '.join(unknown)}; expected some of {', '.join(faults)}")
    return [faults[name] for name in dict.fromkeys(listed)] or list(faults.values())

"""What falls when, on what, and for how long: drawn from a seed, the same each time. No I/O."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WARM_UP_SECONDS, WARM_UP_SHARE = 12.0, 0.15
"""No fault falls so early, or in so early a part of a short load."""


@dataclass(frozen=True)
class Kind:
    """What the schedule needs to know of a fault: `targets` to draw from, how long it lasts (`seconds`, from and to),
    and `allowance_seconds` for evidence and recovery before the next fault."""

    name: str
    targets: tuple[str, ...]
    seconds: tuple[float, float]
    allowance_seconds: float


@dataclass(frozen=True)
class Fall:
    """One fault at one time: `at_seconds` from the start of the load, lasting `seconds`."""

    at_seconds: float
    fault: str
    target: str
    seconds: float

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.fault} on {self.target}{lasting}"


def draw(kinds: Iterable[Kind], load_seconds: float, seed: int) -> list[Fall]:
    """The falls of one run, none overlapping, as many as fit into `load_seconds`; at least one.

    They are dealt like cards: each fault on each of its targets once, in random order, then all anew. What does not fit
    any more is left out.
    """
    dice = random.Random(seed)
    cards = [(kind, target) for kind in kinds for target in kind.targets]
    falls: list[Fall] = []
    at = min(WARM_UP_SECONDS, WARM_UP_SHARE * load_seconds)
    while True:
        before = len(falls)
        for kind, target in _shuffled(cards, dice):
            seconds = round(dice.uniform(*kind.seconds), 1)
            end = at + seconds + kind.allowance_seconds
            if not falls or end <= load_seconds:
                falls.append(Fall(round(at, 1), kind.name, target, seconds))
                at = end + dice.uniform(0.5, 2.0)
        if len(falls) == before:
            return falls


def _shuffled(cards: Sequence[tuple[Kind, str]], dice: random.Random) -> list[tuple[Kind, str]]:
    """In random order, but every fault has had its first turn before any has its second."""
    turns: dict[str, int] = {}
    shuffled = dice.sample(cards, len(cards))
    numbered = []
    for kind, target in shuffled:
        turns[kind.name] = turns.get(kind.name, 0) + 1
        numbered.append((turns[kind.name], kind, target))
    return [(kind, target) for _, kind, target in sorted(numbered, key=lambda card: card[0])]


def chosen(names: str, known: Mapping[str, Kind]) -> list[Kind]:
    """The faults of a comma-separated list; all of them for an empty one. Raises ValueError that names the unknown."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"no fault is called {', '.join(unknown)}; expected some of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)] or list(known.values())

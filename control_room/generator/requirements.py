"""The pinned requirements of a project: those of ours that its own dependencies bring, as uv has noted them."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

PIN = re.compile(r"^([a-zA-Z0-9_.-]+)==", flags=re.MULTILINE)
PARENT = re.compile(r"^    #(?: via|  ) +([a-zA-Z0-9_.-]+)", flags=re.MULTILINE)


def normal(name: str) -> str:
    """A distribution's name as pins have it: in lower case, with dashes, and without extras and markers."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name.strip())[0]).lower()


def pinned_for(pins: str, wanted: Iterable[str]) -> str:
    """The pins of what is wanted, and of all that it needs. `wanted`: names as `pyproject.toml` has them."""
    blocks = dict(_blocks(pins))
    parents = {name: {normal(each) for each in PARENT.findall(block)} for name, block in blocks.items()}
    kept = {normal(name) for name in wanted} & blocks.keys()
    while more := {name for name, above in parents.items() if above & kept} - kept:
        kept |= more
    head = pins[: re.search(PIN, pins).start()]  # type: ignore[union-attr]
    return head + "".join(block for name, block in blocks.items() if name in kept)


def _blocks(pins: str) -> Iterator[tuple[str, str]]:
    """Each pinned name with its lines."""
    starts = [*(found.start() for found in PIN.finditer(pins)), len(pins)]
    for begin, end in pairwise(starts):
        yield normal(PIN.match(pins, begin)[1]), pins[begin:end]  # type: ignore[index]

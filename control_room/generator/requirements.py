"""The pinned requirements of a project: those of ours that its own dependencies bring, as uv notes who needs what."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

PIN = re.compile(r"^([a-zA-Z0-9_.-]+)==", flags=re.MULTILINE)
NEEDED_BY = re.compile(r"^    #(?: via|  ) (\S.*)\n", flags=re.MULTILINE)
NOTES = re.compile(r"(?:^    #.*\n)+", flags=re.MULTILINE)
ITSELF, CONSTRAINT = "(pyproject.toml", "-c "
"""In a note: a project, and the file of pins that these keep to."""


def normal(name: str) -> str:
    """A distribution's name as pins have it: in lower case, with dashes, and without extras and markers."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name.strip())[0]).lower()


def pinned_for(pins: str, wanted: Iterable[str], project: str) -> str:
    """The pins of what the project wants, by the names in its `pyproject.toml`, and of all that it needs."""
    blocks = dict(_blocks(pins))
    needed_by = {name: NEEDED_BY.findall(block) for name, block in blocks.items()}
    direct = {normal(name) for name in wanted} & blocks.keys()
    kept = set(direct)
    while more := {name for name, above in needed_by.items() if kept & set(above)} - kept:
        kept |= more
    head = pins[: re.search(PIN, pins).start()]  # type: ignore[union-attr]
    return head + "".join(
        NOTES.sub(_notes(needed_by[name], kept, project if name in direct else ""), block)
        for name, block in blocks.items()
        if name in kept
    )


def _notes(needed_by: Iterable[str], kept: set[str], project: str) -> str:
    """What of the notes holds for the project; its name is empty for what it does not ask for itself."""
    constraints = [each for each in needed_by if each.startswith(CONSTRAINT)]
    itself = [re.sub(r"^\S+", project, each) for each in needed_by if project and ITSELF in each]
    notes = [*constraints, *itself, *(each for each in needed_by if each in kept)]
    if len(notes) == 1:
        return f"    # via {notes[0]}\n"
    return "".join(["    # via\n", *(f"    #   {each}\n" for each in notes)])


def _blocks(pins: str) -> Iterator[tuple[str, str]]:
    """Each pinned name with its lines."""
    starts = [*(found.start() for found in PIN.finditer(pins)), len(pins)]
    for begin, end in pairwise(starts):
        yield normal(PIN.match(pins, begin)[1]), pins[begin:end]  # type: ignore[index]

"""The raw record of a way: one line of JSON for each thing that happened, and what follows from all of them.

Processes append to it, several at a time. Every figure of the lab is counted from these lines alone.
"""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]

ASKED, PLACED = "asked", "placed"
"""A customer asks for an order; the order is in the shop's books, and counts as accepted."""
PUBLISHED = "published"
"""The message was sent; with `confirmed` the broker has said that it has it."""
DELIVERED, SETTLED = "delivered", "settled"
"""A consumer begins to work on a delivery; it tells the broker what became of it. Without `order`: rubbish."""
PERFORMED, REPEATED = "performed", "repeated"
"""The effect of an order was done; it was found done already, and nothing was done."""
REFUSED = "refused"
"""The courier company was down when it was called."""
FAULT, ENDED = "fault", "ended"
"""A fault, with its evidence, and when it was over; a process has ended, with its exit status."""
ALONE_BEGUN, ALONE_OVER = "alone: begun", "alone: over"
"""The part without faults, in which no other way runs."""
OVER = "over"
"""After a fault nothing more happens: all orders so far are done, lost or stuck. `waiting`: messages in the queues."""
HELD_UP, LEFT = "held up", "left"
"""At the end of the outage a kitchen order was not done; at the end of the run a message was still in `where`."""

KINDS = KITCHEN, COURIER = "kitchen", "courier"
"""The two kinds of orders, and of work."""


def kind_of(order: int) -> str:
    """Odd numbers are for the kitchen."""
    return KITCHEN if order % 2 else COURIER


class Recorder:
    """Appends lines to a record."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(self, what: str, order: int | None = None, *, durable: bool = False, **more: object) -> None:
        """`durable`: it is on disk when this returns."""
        about = {} if order is None else {"order": order}
        line = {"at": round(time.time(), 6), "pid": os.getpid(), "what": what, **about, **more}
        os.write(self._file, json.dumps(line).encode() + b"\n")  # at once and whole
        if durable:
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def lines_of(file: Path) -> Iterator[Line]:
    """All lines of a record, oldest first."""
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


class Reader:
    """Reads what others append to a record, as far as it is there."""

    def __init__(self, file: Path) -> None:
        file.touch()
        self._file = file.open("rb")
        self._rest = b""

    def new_lines(self) -> list[Line]:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self._file.close()


@dataclass
class Tally:
    """What the lines so far add up to."""

    asked: int = 0
    placed: set[int] = field(default_factory=set)
    published: set[int] = field(default_factory=set)
    performed: Counter[int] = field(default_factory=Counter)
    performed_at: list[float] = field(default_factory=list)
    worked_at: list[tuple[float, int]] = field(default_factory=list)
    """Performed, or found done."""
    held: dict[int, set[int | None]] = field(default_factory=lambda: defaultdict(set))
    """By process: the orders whose deliveries it has and has not settled; None for rubbish."""
    refused: int = 0
    rubbish: Counter[str] = field(default_factory=Counter)
    """What the consumer told the broker about it, and how often."""
    progress_at: float = 0.0
    deliveries_since: int = 0
    """Since the last progress: an order that was asked for, placed or done."""

    def add(self, line: Line) -> None:
        if line["what"] in (ASKED, PLACED, PERFORMED, REPEATED):
            self.progress_at, self.deliveries_since = line["at"], 0
            self._add_progress(line["what"], line["order"], line["at"])
        else:
            self._add_delivery(line["what"], line.get("order"), line)

    def _add_progress(self, what: str, order: int, at: float) -> None:
        match what:
            case "asked":
                self.asked = max(self.asked, order)
            case "placed":
                self.placed.add(order)
            case "performed":
                self.performed[order] += 1
                self.worked_at.append((at, order))
                self.performed_at.append(at)
            case "repeated":
                self.worked_at.append((at, order))

    def _add_delivery(self, what: str, order: int | None, line: Line) -> None:
        match what:
            case "published" if order is not None:
                self.published.add(order)
            case "delivered":
                self.deliveries_since += 1
                self.held[line["pid"]].add(order)
            case "settled":
                self.held[line["pid"]].discard(order)
                if order is None:
                    self.rubbish[line["outcome"]] += 1
            case "refused":
                self.refused += 1


@dataclass(frozen=True)
class Outcome:
    """What became of a way's orders.

    `lost`: accepted, never done, and in no queue any more. `duplicated`: done more than once. `stuck`: accepted and
    not done, in a queue at the end; or held up, until the courier company was back, although the kitchen was not down.
    `unasked`: done, and in nobody's books. `per_second`: done in the round without faults. `recovered_seconds`: from
    the end of a fault to the next order that was done, or found done, the longest of them; None if orders waited, and
    none was done any more.
    """

    accepted: int
    performed: int
    lost: int
    duplicated: int
    stuck: int
    unasked: int
    per_second: float
    recovered_seconds: float | None

    def signs(self) -> set[str]:
        """The kinds of damage."""
        return {name for name in ("lost", "duplicated", "stuck", "unasked") if getattr(self, name)}


def outcome_of(lines: Iterable[Line]) -> Outcome:
    """What a whole record adds up to."""
    tally, others = Tally(), defaultdict[str, list[Line]](list)
    for line in lines:
        tally.add(line)
        others[line["what"]].append(line)
    left, held_up = ({line["order"] for line in others[what]} for what in (LEFT, HELD_UP))
    done = set(tally.performed)
    faults = zip(others[FAULT], others[OVER], strict=True)
    waits = [_seconds_to_next(fault, over, tally.worked_at) for fault, over in faults]
    return Outcome(
        accepted=len(tally.placed),
        performed=len(done),
        lost=len(tally.placed - done - left),
        duplicated=sum(times > 1 for times in tally.performed.values()),
        stuck=len(((left - done) | held_up) & tally.placed),
        unasked=len(done - tally.placed),
        per_second=_rate(others[ALONE_BEGUN], others[ALONE_OVER], tally.performed_at),
        recovered_seconds=None if None in waits else max(wait for wait in waits if wait is not None),
    )


def _seconds_to_next(fault: Line, over: Line, worked_at: Iterable[tuple[float, int]]) -> float | None:
    """From the end of a fault to the next order of the kinds that it is about; 0 if there were no more orders."""
    since, until = fault["since"], over["at"]
    seconds = (at - since for at, order in worked_at if since < at < until and kind_of(order) in fault["of"])
    return next(seconds, None if over["waiting"] else 0.0)


def _rate(begun: Sequence[Line], over: Sequence[Line], performed_at: Iterable[float]) -> float:
    begin, end = begun[0]["at"], over[0]["at"]
    done = [at for at in performed_at if begin <= at <= end]
    return len(done) / max(done[-1] - begin, 0.001) if done else 0.0

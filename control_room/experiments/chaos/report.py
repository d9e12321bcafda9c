"""The report of a chaos run: plain data, as Markdown and as JSON. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from control_room.experiments.chaos.faults.fault import Injection
from control_room.experiments.chaos.watch import Memory
from control_room.text import markdown_cell, markdown_table

MEBIBYTE = 1024 * 1024
MOST_GROWTH = 0.2


@dataclass(frozen=True)
class LoadReport:
    """What customers saw. `unknown`: orders that they never had an answer for, so that they may exist or not."""

    placed: int
    accepted: int
    repeated: int
    replayed: int
    unknown: int
    refused: Mapping[str, int]
    seconds: float
    latency_seconds: Mapping[str, float]


@dataclass(frozen=True)
class ChaosReport:
    """A whole run. `audit` is the audit's report as JSON."""

    seed: int
    rate: float
    recover_within_seconds: float
    load: LoadReport
    injections: tuple[Injection, ...]
    closed: int
    still_open: tuple[str, ...]
    duplicates: int
    swept: int
    memory: Mapping[str, Memory]
    audit: Mapping[str, Any]
    failures: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failures", tuple(self._failures()))

    @property
    def held(self) -> bool:
        """Whether nothing was lost or doubled, and every fault really happened and was recovered from."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        injections = [each.as_json() for each in self.injections]
        memory = [{"service": name, "warm": each.warm, "last": each.last} for name, each in self.memory.items()]
        return {"held": self.held, **values, "load": asdict(self.load), "injections": injections, "memory": memory}

    def _failures(self) -> Iterator[str]:
        yield from self._failures_of_orders()
        for injection in self.injections:
            yield from self._failures_of(injection)
        for service, memory in self.memory.items():
            if memory.growth is not None and memory.growth > MOST_GROWTH:
                yield f"{service} grew by {100 * memory.growth:.0f} % after its warm-up"

    def _failures_of_orders(self) -> Iterator[str]:
        for violation in self.audit["violations"]:
            yield f"{violation['invariant']}: {violation['subject']}: {violation['what']}"
        if in_flight := self.audit.get("in_flight"):
            yield f"{in_flight} orders are still in flight, such as {self.audit['in_flight_orders'][0]}"
        if self.still_open:
            yield f"{len(self.still_open)} accepted orders did not reach their end, such as {self.still_open[0]}"
        for answer, count in self.load.refused.items():
            yield f"{count} orders were refused: {answer}"
        second = self.audit["counts"]["orders"] - self.load.accepted - self.load.unknown
        if second > 0:
            yield f"{second} orders more than were accepted: a lost answer has given a second order"

    def _failures_of(self, injection: Injection) -> Iterator[str]:
        name = f"{injection.fault} on {injection.target} at {injection.at_seconds:.0f} s"
        if injection.problem or not injection.evidence:
            yield f"{name}: no evidence: {injection.problem or 'nothing was seen'}"
        for what, seconds in (("back", injection.back_seconds), ("rid of its backlog", injection.backlog_seconds)):
            if seconds is None or seconds > self.recover_within_seconds:
                took = "never" if seconds is None else f"only after {seconds:.1f} s"
                yield f"{name}: {what} {took}, expected within {self.recover_within_seconds:g} s"


def to_markdown(report: ChaosReport) -> str:
    """The report as a page for people."""
    sections = (_verdict(report), _faults(report), _load(report), _audit(report), _memory(report))
    return "\n".join(line for section in sections for line in (*section, ""))


def _verdict(report: ChaosReport) -> list[str]:
    verdict = "All of it held." if report.held else f"{len(report.failures)} things did not hold:"
    failures = [f"- {markdown_cell(failure)}" for failure in report.failures]
    return ["# Chaos", "", f"Seed {report.seed}, {report.load.seconds:.0f} s of load. **{verdict}**", "", *failures]


def _faults(report: ChaosReport) -> list[str]:
    heads = ("at (s)", "fault", "on", "lasted (s)", "evidence", "back after (s)", "backlog gone after (s)")
    rows = [
        (
            f"{each.at_seconds:.1f}",
            each.fault,
            each.target,
            _seconds(each.lasted_seconds),
            "; ".join([*each.evidence, *([f"NO EVIDENCE: {each.problem}"] if each.problem else [])]),
            _seconds(each.back_seconds),
            _seconds(each.backlog_seconds),
        )
        for each in report.injections
    ]
    return [f"## {len(report.injections)} faults", "", *markdown_table(heads, rows)]


def _load(report: ChaosReport) -> list[str]:
    load = report.load
    latency = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in load.latency_seconds.items())
    return [
        "## Orders",
        "",
        f"- {load.placed} placed at {report.rate:g} a second; {load.accepted} accepted, {load.unknown} never answered",
        f"- repeated {load.repeated} times with the same key; {load.replayed} answers were replayed",
        f"- {report.closed} closed, {len(report.still_open)} still open",
        f"- {report.duplicates} duplicate deliveries suppressed; {report.swept} orders re-emitted by the sweep",
        f"- time to a 202 from when the order was due, faults included: {latency}",
    ]


def _audit(report: ChaosReport) -> list[str]:
    counts = ", ".join(f"{name} {count}" for name, count in report.audit["counts"].items())
    rows = [
        (check["name"], check["meaning"], check["not_judged"] or str(check["violations"]))
        for check in report.audit["checks"]
    ]
    return ["## Audit", "", counts, "", *markdown_table(("invariant", "meaning", "violations"), rows)]


def _memory(report: ChaosReport) -> list[str]:
    rows = [
        (
            service,
            f"{memory.warm / MEBIBYTE:.0f}" if memory.warm else "",
            f"{memory.last / MEBIBYTE:.0f}",
            "" if memory.growth is None else f"{100 * memory.growth:+.0f} %",
        )
        for service, memory in report.memory.items()
    ]
    heads = ("service", "after warm-up (MiB)", "at the end (MiB)", "growth")
    return ["## Memory", "", *markdown_table(heads, rows)]


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"

"""The report of a chaos run, as Markdown and as JSON. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from control_room.experiments.chaos.customers import Cancellations
from control_room.experiments.chaos.faults.fault import Injection
from control_room.experiments.chaos.watch import Seen
from control_room.experiments.report import Report, audit_section, joined, latencies, violations_of
from control_room.experiments.traffic import LoadReport
from control_room.operations.audit.report import money_lines
from control_room.text import markdown_table

MEBIBYTE = 1024 * 1024
MOST_GROWTH = 0.2


@dataclass
class ChaosReport(Report):
    """A run: what is asked of it, how far it is (`phase`), and what came of it; it fills while the run goes on.

    The load lasts `load_seconds`, and until the last fault is over. Then the last orders may be open for
    `quiet_within_seconds`, and the audit may take as long until it is clean. `load` is what customers saw, `seen` what
    was seen of the system. `not_too_late`: orders whose cancellation was refused as if they had been declined. `audit`:
    the audit's report as JSON. `events`: as many were counted from the stream that keeps them, and `differences` says
    where that differs from the audit. `orders_before`: how many there were before the load. `retries_seconds`: how long
    the retries of an order may take; the backlog of a fault may take as much longer.
    """

    PROMISE = "nothing lost, nobody charged twice, nothing kept of a cancelled order, every fault seen to happen."

    seed: int
    rate: float
    load_seconds: float
    injections: Sequence[Injection]
    recover_within_seconds: float = 15.0
    quiet_within_seconds: float = 90.0
    cancel_share: float = 0.2
    nodes: int = 1
    orders_before: int = 0
    retries_seconds: float = 0.0
    phase: str = "starting"
    load: LoadReport = field(default_factory=LoadReport)
    cancellations: Cancellations = field(default_factory=Cancellations)
    not_too_late: Sequence[str] = ()
    seen: Seen = field(default_factory=Seen)
    audit: Mapping[str, Any] = field(default_factory=dict)
    events: int = 0
    differences: Sequence[str] = ()

    @property
    def still_open(self) -> list[str]:
        """The accepted orders that are not known to be final or stalled."""
        return sorted(self.seen.orders.ids)

    @property
    def failures(self) -> list[str]:
        return [*self._failures_of_orders(), *self._failures_of_faults(), *self._failures_of_memory()]

    def as_json(self) -> dict[str, Any]:
        load = asdict(self.load)
        load["unknown"] = load.pop("unanswered")
        memory = [
            {"service": name, "warm": each.warm, "last": each.last, "measured": each.measured}
            for name, each in self.seen.memory.items()
        ]
        return {
            "held": self.held,
            "seed": self.seed,
            "rate": self.rate,
            "nodes": self.nodes,
            "recover_within_seconds": self.recover_within_seconds,
            "load": load,
            "cancel_share": self.cancel_share,
            "cancellations": asdict(self.cancellations),
            "not_too_late": self.not_too_late,
            "injections": [each.as_json() for each in self.injections],
            "closed": self.seen.orders.closed,
            "still_open": self.still_open,
            "duplicates": self.seen.duplicates,
            "swept": self.seen.swept,
            "memory": memory,
            "audit": self.audit,
            "events": self.events,
            "differences": self.differences,
            "failures": self.failures,
        }

    def as_markdown(self) -> str:
        heading = self.heading("Chaos", f"Seed {self.seed}, {self.load.seconds:.0f} s of load", "All of it held.")
        return joined(
            heading, _faults(self), _load(self), audit_section(self.audit), _memory(self) if self.seen.memory else []
        )

    def summary(self) -> Iterator[str]:
        yield (
            f"{self.load.accepted} orders accepted, {self.seen.orders.closed} closed, {len(self.injections)} faults, "
            f"{self.seen.duplicates} duplicates suppressed, {self.seen.swept} orders re-emitted."
        )
        yield _cancelled(self)
        yield from money_lines(self.audit["money"])
        yield _replayed(self)

    def _failures_of_orders(self) -> Iterator[str]:
        yield from violations_of(self.audit)
        if in_flight := self.audit["in_flight"]:
            yield f"{in_flight} orders are still in flight, such as {self.audit['in_flight_orders'][0]}"
        if self.still_open:
            yield f"{len(self.still_open)} accepted orders did not reach their end, such as {self.still_open[0]}"
        for answer, count in self.load.refused.items():
            yield f"{count} orders were refused: {answer}"
        for answer, count in self.cancellations.refused.items():
            yield f"{count} cancellations were refused: {answer}"
        if self.not_too_late:
            yield f"{len(self.not_too_late)} cancellations were refused as too late, such as of {self.not_too_late[0]}"
        for difference in self.differences:
            yield f"the stream of events and the audit differ: {difference}"
        second = self.audit["counts"]["orders"] - self.orders_before - self.load.accepted - self.load.unanswered
        if second > 0:
            yield f"{second} orders more than were accepted: a lost answer has given a second order"

    def _failures_of_faults(self) -> Iterator[str]:
        for each in self.injections:
            name = f"{each.fault} on {each.target} at {each.at_seconds:.0f} s"
            if each.problem or not each.evidence:
                yield f"{name}: no evidence: {each.problem or 'nothing was seen'}"
            within = self.recover_within_seconds
            for what, seconds, limit in (
                ("back", each.back_seconds, within),
                ("rid of its backlog", each.backlog_seconds, within + self.retries_seconds),
            ):
                if seconds is None or seconds > limit:
                    took = "never" if seconds is None else f"only after {seconds:.1f} s"
                    yield f"{name}: {what} {took}, expected within {limit:g} s"

    def _failures_of_memory(self) -> Iterator[str]:
        for service, memory in self.seen.memory.items():
            if memory.growth is not None and memory.growth > MOST_GROWTH:
                yield f"{service} grew by {100 * memory.growth:.0f} % after its warm-up"


def _faults(report: ChaosReport) -> list[str]:
    heads = ("at (s)", "fault", "on", "lasted (s)", "evidence", "back after (s)", "backlog gone after (s)")
    rows = [
        (
            f"{each.at_seconds:.1f}",
            each.fault,
            each.target,
            _seconds(each.lasted_seconds),
            each.proof,
            _seconds(each.back_seconds),
            _seconds(each.backlog_seconds),
        )
        for each in report.injections
    ]
    return [f"## {len(report.injections)} faults", "", *markdown_table(heads, rows)]


def _load(report: ChaosReport) -> list[str]:
    load, seen = report.load, report.seen
    return [
        "## Orders",
        "",
        f"- {load.placed} placed at {report.rate:g} a second; {load.accepted} accepted, {load.unanswered} not answered",
        f"- repeated {load.repeated} times with the same key; {load.replayed} answers were replayed",
        f"- {_cancelled(report)}",
        *(f"- {line}" for line in money_lines(report.audit["money"])),
        f"- {_replayed(report)}",
        f"- {seen.orders.closed} closed, {len(report.still_open)} still open",
        f"- {seen.duplicates} duplicate deliveries suppressed; {seen.swept} orders re-emitted by the sweep",
        f"- time to a 202 from when the order was due, faults included: {latencies(load.latency_seconds)}",
    ]


def _cancelled(report: ChaosReport) -> str:
    seen, statuses = report.cancellations, report.audit["statuses"]
    return (
        f"{seen.accepted} orders cancelled by their customers, {len(seen.too_late)} too late, {seen.unanswered} not "
        f"answered; {statuses.get('cancelled', 0)} voided, {statuses.get('refunded', 0)} refunded"
    )


def _replayed(report: ChaosReport) -> str:
    outcome = "which differs from the audit" if report.differences else "as the audit says it"
    return f"{report.events} events replayed from the stream that keeps them, {outcome}"


def _memory(report: ChaosReport) -> list[str]:
    rows = [
        (
            service,
            f"{memory.warm / MEBIBYTE:.0f}" if memory.warm else "",
            f"{memory.last / MEBIBYTE:.0f}",
            "" if memory.growth is None else f"{100 * memory.growth:+.0f} %",
        )
        for service, memory in report.seen.memory.items()
    ]
    heads = ("service", "after warm-up (MiB)", "at the end (MiB)", "growth")
    return ["## Memory", "", *markdown_table(heads, rows)]


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"

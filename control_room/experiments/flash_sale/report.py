"""What came of a flash sale, as Markdown and as JSON. No I/O."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from control_room.experiments.flash_sale.chart import chart
from control_room.experiments.flash_sale.rail import Look, oldest_age_seconds, rate
from control_room.experiments.report import Report, audit_section, joined, latencies, violations_of
from control_room.experiments.traffic import LoadReport
from control_room.text import duration, markdown_table

OVER = "over"
"""The phase of a sale that was not interrupted."""


@dataclass
class SaleReport(Report):
    """A sale: what is asked for, and what came of it; it fills while the sale goes on.

    `orders` in `seconds` is what is asked for. `payments_per_minute`: at the most; None where the system runs already
    and sets its own pace. `drain`: whether to wait until every order is paid and its customer notified. `looks`: the
    rail once a second. `ended_in`: its phase, or the one in which it was interrupted. `sale`: what the customers saw,
    without latencies until they have ended. `predicted_seconds`, `drained_seconds`: from the end of the sale until all
    was paid, by the pace of payments then, and in fact; None if that was not seen. `processor_seconds`: what each
    process took during the sale. `audit`: the audit's report as JSON.
    """

    PROMISE = "every order accepted, none lost, the audit clean."

    orders: int
    seconds: float
    payments_per_minute: int | None
    drain: bool = True
    looks: list[Look] = field(default_factory=lambda: [Look(0.0, 0, 0)])
    ended_in: str = "starting"
    sale: LoadReport | None = None
    predicted_seconds: float | None = None
    drained_seconds: float | None = None
    processor_seconds: Mapping[str, float] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None
    processors: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def failures(self) -> list[str]:
        return [*self._sale_failures(), *self._audit_failures()]

    @property
    def largest_backlog(self) -> int:
        return max(look.backlog for look in self.looks)

    @property
    def longest_wait_seconds(self) -> float:
        """The greatest age of the oldest order in the backlog."""
        return max(oldest_age_seconds(self.looks[: end + 1]) for end in range(len(self.looks)))

    @property
    def paid_per_minute(self) -> Mapping[str, float]:
        """The pace of payments during the sale and while the rail drained, where there was time to see one."""
        end = self.sale.seconds if self.sale else 0.0
        parts = {
            "during the sale": [look for look in self.looks if look.seconds <= end],
            "afterwards": [look for look in self.looks if look.seconds >= end and look.backlog],
        }
        return {
            name: 60 * rate(looks, "paid", looks[-1].seconds - looks[0].seconds)
            for name, looks in parts.items()
            if looks and looks[-1].seconds - looks[0].seconds >= 1
        }

    @property
    def paces(self) -> str:
        """`paid_per_minute` in words; empty if there was no time to see one."""
        return ", ".join(f"{pace:,.0f} a minute {when}" for when, pace in self.paid_per_minute.items())

    def as_json(self) -> dict[str, Any]:
        derived = {
            "failures": self.failures,
            "largest_backlog": self.largest_backlog,
            "longest_wait_seconds": self.longest_wait_seconds,
            "paid_per_minute": dict(self.paid_per_minute),
        }
        return {"held": self.held, **asdict(self), **derived}

    def as_markdown(self) -> str:
        """Refers to the chart as `chart.svg`, beside it."""
        audit = audit_section(self.audit) if self.audit else []
        return joined(_heading(self), _sale(self), _rail(self), _processors(self), audit)

    def attachments(self) -> Mapping[str, bytes]:
        return {"chart.svg": chart(self.looks)}

    def summary(self) -> Iterator[str]:
        if self.sale is not None:
            latency = self.sale.latency_seconds
            speed = f", p50 {1000 * latency['p50']:,.0f} ms, p99 {1000 * latency['p99']:,.0f} ms" if latency else ""
            accepted = f"{self.sale.accepted:,} of {self.orders:,} orders accepted"
            yield f"{accepted} in {self.sale.seconds:.1f} s{speed}."
        yield f"Largest backlog {self.largest_backlog:,}; paid {self.paces or 'nothing'}."
        if self.drained_seconds is not None and self.predicted_seconds is not None:
            predicted, actual = duration(self.predicted_seconds), duration(self.drained_seconds)
            yield f"Drained {actual} after the last order; predicted: {predicted}."

    def _sale_failures(self) -> Iterator[str]:
        if self.ended_in != OVER:
            yield f"broken off, in the phase: {self.ended_in}"
        if self.sale is None:
            yield "no order was placed"
            return
        if self.sale.placed < self.orders:
            yield f"only {self.sale.placed:,} of {self.orders:,} orders were placed"
        for answer, count in self.sale.refused.items():
            yield f"{count:,} orders were refused: {answer}"
        if unanswered := self.sale.placed - self.sale.accepted - sum(self.sale.refused.values()):
            yield f"{unanswered:,} orders had no answer"

    def _audit_failures(self) -> Iterator[str]:
        if self.audit is None:
            yield "the orders were not audited"
            return
        if self.drain and self.drained_seconds is None:
            yield f"the rail did not drain: {self.looks[-1].backlog:,} orders were still waiting"
        if self.drained_seconds is not None and self.payments_per_minute and self.audit["in_flight"]:
            yield f"{self.audit['in_flight']:,} orders are still in flight"
        yield from violations_of(self.audit)


def _heading(report: SaleReport) -> list[str]:
    asked = f"{report.orders:,} orders in {report.seconds:g} s"
    if report.payments_per_minute:
        asked += f", payments at {report.payments_per_minute:,} a minute at the most"
    all_held = "All were accepted, and none was lost."
    return [*report.heading("Flash sale", asked, all_held), "![The rail](chart.svg)"]


def _sale(report: SaleReport) -> list[str]:
    sale = report.sale
    if sale is None:
        return []
    pace = f"{sale.accepted / max(sale.seconds, 0.001):,.0f} a second"
    return [
        "## Customers",
        "",
        f"- {sale.placed:,} orders placed, {sale.accepted:,} answered with 202, in {sale.seconds:.1f} s: {pace}",
        f"- time to a 202, from the moment the order was due: {latencies(sale.latency_seconds)}",
        f"- how late the orders were sent, which is part of it: {latencies(sale.lateness_seconds)}",
    ]


def _rail(report: SaleReport) -> list[str]:
    lines = [
        "## The rail",
        "",
        f"- payments: {report.paces or 'none seen'}",
        f"- largest backlog: {report.largest_backlog:,} orders",
        f"- longest wait for a payment: {report.longest_wait_seconds:,.0f} s",
    ]
    if report.drain:
        predicted, actual = _seconds(report.predicted_seconds), _seconds(report.drained_seconds)
        lines.append(f"- time to drain after the last order: {predicted} predicted, {actual} in fact")
    return lines


def _processors(report: SaleReport) -> list[str]:
    if report.sale is None or not report.processor_seconds:
        return []
    by_process = {**report.processor_seconds, "customers": report.sale.processor_seconds}
    ascending = sorted(by_process.items(), key=lambda item: item[1])
    rows = []
    for name, seconds in (*reversed(ascending), ("all", sum(by_process.values()))):
        share = 100 * seconds / max(report.sale.seconds, 0.001)
        rows.append((name, f"{seconds:.1f}", f"{share:.0f} %", f"{share / report.processors:.1f} %"))
    heads = ("process", "processor time (s)", "of one processor", f"of all {report.processors}")
    return ["## Processor time during the sale", "", *markdown_table(heads, rows)]


def _seconds(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:,.0f} s"

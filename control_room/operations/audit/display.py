"""An audit's report for people: each invariant with its count, and the evidence of what is wrong."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_room.operations.audit.report import AuditReport, Check, Violation

SHOWN_EACH = 10
"""Violations of one invariant that are printed; --json has more of them."""


def show(console: Console, report: AuditReport) -> None:
    """Print the whole report."""
    console.print(_table(report))
    for check in report.checks:
        _show_violations(console, check, [each for each in report.violations if each.invariant == check.name])
    _show_counts(console, report)


def _table(report: AuditReport) -> Table:
    table = Table("invariant", "must be true", "violations", title="Audit")
    for check in report.checks:
        table.add_row(check.name, escape(check.meaning), _verdict(check))
    return table


def _verdict(check: Check) -> str:
    if check.not_judged:
        return f"[dim]not judged: {escape(check.not_judged)}[/]"
    return f"[bold red]{check.violations}[/]" if check.violations else "[green]0[/]"


def _show_violations(console: Console, check: Check, violations: list[Violation]) -> None:
    for violation in violations[:SHOWN_EACH]:
        line = escape(f"{violation.subject}: {violation.what}")
        console.print(f"[red]VIOLATION[/] [bold]{check.name}[/] {line}", soft_wrap=True)
        for service, said in violation.evidence.items():
            console.print(f"    {service:21}{escape(said)}", soft_wrap=True)
    if check.violations > SHOWN_EACH:
        console.print(f"    and {check.violations - SHOWN_EACH} more of {check.name}")


def _show_counts(console: Console, report: AuditReport) -> None:
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in report.counts.items() if number)
    console.print(f"Looked at {counts or 'nothing: there are no orders yet'}.", soft_wrap=True)
    if report.in_flight:
        console.print(escape(_in_flight(report)), soft_wrap=True)
    total = sum(check.violations for check in report.checks)
    console.print("[bold green]The books agree.[/]" if report.is_clean else f"[bold red]{total} violations.[/]")


def _in_flight(report: AuditReport) -> str:
    some = ", ".join(report.in_flight_orders[:3])
    waiting = ", ".join(f"{count:,} for {queue}" for queue, count in report.waiting.items())
    why = f"Messages that may be theirs are on the way: {waiting}." if waiting else "They have changed just now."
    return f"{report.in_flight:,} orders are in flight, such as {some}. {why}"

"""`order-rail audit`: the command, and its report on a terminal."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning, discards_beside, find_system
from control_room.operations.audit import AuditImpossible, AuditReport, Check, Violation, audit
from control_room.operations.audit.after_backup import AfterBackup
from control_room.operations.audit.report import money_lines
from control_room.text import console, counted, silence_logs

SHOWN_EACH = 10
"""Violations of one invariant that are printed; --json has more of them."""


def audit_command(
    settle_seconds: Annotated[
        float, typer.Option(min=0, help="Orders that changed this recently are in flight. 0: the system is idle.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for machines.")] = False,
    environment_file: Annotated[
        Path | None, typer.Option(help=f"Says where the system is. Default: {ENVIRONMENT_FILE}.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Orders that were answered with 202, one id a line: each must exist.")
    ] = None,
    cancellations: Annotated[
        Path | None, typer.Option(help="Orders whose cancellation was answered with 202: none may end as paid.")
    ] = None,
    discards: Annotated[
        Path | None, typer.Option(help="The journal of discarded dead letters. Default: beside the environment file.")
    ] = None,
) -> None:
    """Reconcile every order with payments, the gateway's ledger, notifications, outboxes, queues and dead letters.

    Exit status 1 if anything disagrees, 2 if the audit could not be carried out.
    """
    silence_logs()
    try:
        system = find_system(environment_file)
        discarded = discards or discards_beside(environment_file)
        report = asyncio.run(audit(system, settle_seconds, journal, cancellations=cancellations, discards=discarded))
    except (NotRunning, AuditImpossible) as error:
        typer.echo(f"The audit could not be carried out: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        _show(console(), report)
    if not report.is_clean:
        raise typer.Exit(1)


def _show(output: Console, report: AuditReport) -> None:
    table = Table("invariant", "must be true", "violations", title="Audit")
    for check in report.checks:
        table.add_row(check.name, escape(check.meaning), _verdict(check))
    output.print(table)
    for check in report.checks:
        _show_violations(output, check, [each for each in report.violations if each.invariant == check.name])
    _show_counts(output, report)


def _verdict(check: Check) -> str:
    if check.not_judged:
        return f"[dim]not judged: {escape(check.not_judged)}[/]"
    return f"[bold red]{check.violations}[/]" if check.violations else "[green]0[/]"


def _show_violations(output: Console, check: Check, violations: list[Violation]) -> None:
    for violation in violations[:SHOWN_EACH]:
        line = escape(f"{violation.subject}: {violation.what}")
        output.print(f"[red]VIOLATION[/] [bold]{check.name}[/] {line}", soft_wrap=True)
        for service, said in violation.evidence.items():
            output.print(f"    {service:21}{escape(said)}", soft_wrap=True)
    if check.violations > SHOWN_EACH:
        output.print(f"    and {check.violations - SHOWN_EACH} more of {check.name}")


def _show_counts(output: Console, report: AuditReport) -> None:
    counts = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in report.counts.items() if number)
    output.print(escape(f"Looked at {counts or 'nothing: there are no orders yet'}."), soft_wrap=True)
    for line in money_lines(report.money):
        output.print(line)
    if report.after_backup:
        output.print(escape(_after_backup(report.after_backup)), soft_wrap=True)
    if report.pruned_before:
        output.print(f"Left out: orders from before {report.pruned_before}, if there were any: they are pruned.")
    if report.in_flight:
        output.print(escape(_in_flight(report)), soft_wrap=True)
    total = sum(check.violations for check in report.checks)
    output.print("[bold green]All services agree.[/]" if report.is_clean else f"[bold red]{total} violations.[/]")


def _after_backup(lost: AfterBackup) -> str:
    if not lost.examples:
        return f"Restored to {lost.restored_to}: nothing is known that was accepted after that backup."
    examples = ", ".join(lost.examples[:SHOWN_EACH])
    return (
        f"Restored to {lost.restored_to}. Accepted after that backup, and lost: {counted(lost.orders, 'order')}, of "
        f"which {lost.charged:,} were charged, and {counted(lost.cancellations, 'cancellation')}, such as {examples}."
    )


def _in_flight(report: AuditReport) -> str:
    examples = ", ".join(report.in_flight_orders[:3])
    waiting = ", ".join(f"{count:,} for {queue}" for queue, count in report.waiting.items())
    why = f"Messages that may be theirs are on the way: {waiting}." if waiting else "They have changed just now."
    return f"{report.in_flight:,} orders are in flight, such as {examples}. {why}"

"""`order-rail audit`: the command itself."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning, discards_beside, find_system
from control_room.operations.audit import AuditImpossible, audit, display
from control_room.text import console, silence_logs


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
        kept = discards or discards_beside(environment_file)
        report = asyncio.run(audit(system, settle_seconds, journal, discards=kept))
    except (NotRunning, AuditImpossible) as error:
        typer.echo(f"The audit could not be carried out: {error}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        display.show(console(), report)
    if not report.is_clean:
        raise typer.Exit(1)

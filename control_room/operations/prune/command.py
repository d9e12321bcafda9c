"""`order-rail prune`: one run, for cron or a Kubernetes CronJob. The control room does the same every hour."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning, discards_beside, find_system
from control_room.operations.prune.pruning import FAILURES, Pruned, prune
from control_room.operations.prune.settings import MAX_DAYS, RetentionSettings
from control_room.text import silence_logs
from shared.events.envelope import SUBJECT
from shared.settings import load


def prune_command(
    retain_days: Annotated[
        int | None, typer.Option(min=1, max=MAX_DAYS, help="How long to keep them. Default: RETAIN_DAYS, or 90.")
    ] = None,
    environment_file: Annotated[
        Path | None, typer.Option(help=f"Says where the system is. Default: {ENVIRONMENT_FILE}.")
    ] = None,
    discards: Annotated[
        Path | None, typer.Option(help="The journal of discarded dead letters. Default: beside the environment file.")
    ] = None,
) -> None:
    """Delete the records that are older than RETAIN_DAYS, in every service. The control room does it hourly.

    What is not settled, or has a dead letter, stays, and all that is younger with it. It goes slowly, so that nobody
    notices, and may be interrupted and repeated. Exit status 2 if it could not be carried out.
    """
    silence_logs()
    days = retain_days or load(RetentionSettings).retain_days
    try:
        system = find_system(environment_file)
        pruned = asyncio.run(prune(system, days, discards or discards_beside(environment_file)))
    except (NotRunning, *FAILURES) as error:
        typer.echo(f"Not everything could be pruned: {error}. What is deleted stays deleted; run it again.", err=True)
        raise typer.Exit(2) from None
    _show(pruned, days)


def _show(pruned: Pruned, days: int) -> None:
    before = f"{pruned.before:%Y-%m-%d %H:%M:%S} UTC"
    typer.echo(f"{SUBJECT.capitalize()}s from before {before} are pruned; they are kept for {days} days.")
    if pruned.held_by:
        typer.echo(f"Older ones are kept as well: {pruned.held_by}.")
    for service, records in pruned.deleted.items():
        typer.echo(f"  {service:22}{records:>12,} records deleted")
    typer.echo(f"  {'discarded dead letters':22}{pruned.discards:>12,} entries deleted")

"""`order-rail in-line`: the command itself."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from control_room.experiments.experiment import carry_out, new_directory
from control_room.experiments.in_line.report import InLineReport
from control_room.experiments.in_line.run import both
from control_room.experiments.report import Report
from control_room.experiments.traffic import Unexpected
from control_room.text import console as new_console

WITHOUT_BROKER = "Install it with control_room/launcher/install_prerequisites.sh."


def in_line(
    orders: Annotated[int, typer.Option(min=5, max=1_000, help="In each state of the mail server.")] = 60,
    slow_seconds: Annotated[
        float, typer.Option(min=0.5, max=8.0, help="How long the mail server takes for a mail when it is slow.")
    ] = 2.0,
    run_directory: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where data, logs and report go. Default: a new one under .run/in-line."),
    ] = None,
) -> None:
    """Order, pay and mail in one request, or through a queue, while the mail server is up, slow and down.

    It starts a system and a RabbitMQ of its own, a shop that does everything before it answers, and a mail server for
    both; it leaves nothing running. The same orders come to both shops. report.md and report.json in the run directory
    say what their customers saw.

    Exit status 1 if a queued order was refused, waited for the mail server or got no mail; 2 if it could not run.
    """
    report, console = InLineReport(orders, slow_seconds), new_console()
    directory = run_directory or new_directory("in-line")
    status = carry_out(
        console,
        "The experiment",
        directory,
        lambda reports: _run(console, report, directory, reports),
        without_broker=WITHOUT_BROKER,
        failures=(Unexpected,),
    )
    raise typer.Exit(status)


async def _run(console: Console, report: InLineReport, directory: Path, reports: list[Report]) -> None:
    async with both(report, directory, lambda step: console.print(f"{step} ...")) as shops:
        reports.append(report)
        await shops.run(lambda step: console.print(f"{step} ..."))
        console.print("Stopping ...")

"""`order-rail lab`: the command itself."""

from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from control_room.background import running
from control_room.experiments.experiment import COULD_NOT_RUN, HELD, carry_out, new_directory, show
from control_room.experiments.lab import LabFailed, display
from control_room.experiments.lab.report import LabReport
from control_room.experiments.lab.run import Lab
from control_room.experiments.lab.systems import redis, sqs
from control_room.experiments.lab.ways import RABBITMQ, REDIS, SQS, WAYS, SystemName
from control_room.experiments.report import Report
from control_room.text import console as new_console
from shared.messaging.channel import BrokerUnavailable

LEAST_ORDERS, MOST_ORDERS = 60, 20_000
WITHOUT_BROKER = "Install it with control_room/launcher/install_prerequisites.sh."


def lab(
    orders: Annotated[int, typer.Option(min=LEAST_ORDERS, max=MOST_ORDERS, help="How many, for each way.")] = 2_000,
    way: Annotated[
        list[str] | None, typer.Option(help="One of the ways; again for another one. Default: all of them.")
    ] = None,
    system: Annotated[SystemName, typer.Option(help="What carries the messages.")] = RABBITMQ,
    list_ways: Annotated[bool, typer.Option("--list", help="List the ways, and stop.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where records, report and chart go. Default: a new one under .run/lab."),
    ] = None,
) -> None:
    """Send the same orders through wrong ways and the right one, and count what was lost, repeated and stuck.

    Each way is a small producer and consumer on a RabbitMQ of the lab's own. Processes are killed in the middle of
    their work, the broker is frozen, killed and started again, rubbish comes, and an outside system is down: the same
    for all, at the same orders. The directory has a record of each way, from which all figures are counted, report.md,
    report.json and chart.svg. It takes about two minutes, and leaves nothing running.

    `--system redis` does the same with lists and streams; `--system sqs` tries four promises of SQS on an emulation.

    Exit status 1 if a way did not do what it is known for; 2 if it could not run.
    """
    console = new_console()
    if list_ways:
        for each in WAYS.values():
            console.print(f"{each.name:22}{each.title}")
        return
    if reason := {REDIS: redis.missing, SQS: sqs.missing}.get(system, str)():
        raise typer.Exit(_could_not_run(console, reason))
    if system is SQS:
        raise typer.Exit(_try_promises(console))
    report, directory = LabReport(system, orders, _chosen(way or [], system)), output or new_directory("lab")
    if output is not None and any(output.glob("*.ndjson")):
        raise typer.BadParameter(
            f"{output} has the records of another run; name another directory", param_hint="--output"
        )
    status = carry_out(
        console,
        "The lab",
        directory,
        lambda reports: _run(console, Lab(report, directory), reports),
        without_broker=WITHOUT_BROKER if system is RABBITMQ else None,
        failures=(LabFailed, *((BrokerUnavailable, httpx.HTTPError) if system is RABBITMQ else redis.errors())),
    )
    raise typer.Exit(status)


def _could_not_run(console: Console, reason: str) -> int:
    console.print(f"[red]The lab could not run.[/] {escape(reason)}", soft_wrap=True)
    return COULD_NOT_RUN


def _try_promises(console: Console) -> int:
    try:
        console.print(sqs.try_all())
    except LabFailed as error:
        return _could_not_run(console, str(error))
    return HELD


def _chosen(names: list[str], system: SystemName) -> list[str]:
    """In the order of the ways."""
    ways = [way.name for way in WAYS.values() if way.system == system]
    for name in names:
        if name not in ways:
            raise typer.BadParameter(
                f"on {system} there is no way {name!r}; the ways are {', '.join(ways)}", param_hint="--way"
            )
    return [name for name in ways if not names or name in names]


async def _run(console: Console, lab: Lab, reports: list[Report]) -> None:
    async with running(show(console, lambda: display.live(lab), lambda: display.lines(lab)), "display"):
        await lab.run()
    reports.append(lab.report)

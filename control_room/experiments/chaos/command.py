"""`order-rail chaos`: the command itself."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_room import text
from control_room.background import running
from control_room.experiments.chaos import display
from control_room.experiments.chaos.containers import Composed, ComposeError, composed
from control_room.experiments.chaos.faults import FAULTS, IN_CONTAINERS, Fault
from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.run import Chaos, attached, started
from control_room.experiments.chaos.schedule import chosen, draw
from control_room.experiments.experiment import COULD_NOT_RUN, carry_out, new_directory, show
from control_room.experiments.report import Report
from control_room.launcher.nodes_option import Nodes
from control_room.operations.addresses import NotRunning

MAX_SEED = 999_999
WITHOUT_BROKER = (
    "Run it natively: `make chaos`, or after control_room/launcher/install_prerequisites.sh. No container of ours has "
    "RabbitMQ and the services in one; on the machine that runs `docker compose`, `order-rail chaos --compose` breaks "
    "the containers. Or use the buttons of the control room, or `docker compose kill` a service."
)


def chaos(
    seed: Annotated[
        int | None, typer.Option(help="Draws which fault is injected when. Default: a random one, printed.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the load lasts.")] = 10.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second.")] = 40.0,
    cancel_share: Annotated[
        float, typer.Option(min=0, max=1, help="The share of the orders that their customers cancel, at any moment.")
    ] = 0.2,
    nodes: Nodes = 1,
    compose: Annotated[
        bool, typer.Option("--compose", help="Break the containers that `docker compose` runs here, and nothing else.")
    ] = False,
    faults: Annotated[str, typer.Option(help="Names, separated by commas. Default: all of them.")] = "",
    list_faults: Annotated[bool, typer.Option("--list-faults", help="List the faults, and stop.")] = False,
    recover_within_seconds: Annotated[
        float, typer.Option(min=1, help="After the end of each fault. Slower is a failure.")
    ] = 15.0,
    quiet_within_seconds: Annotated[
        float,
        typer.Option(
            min=1, help="How long the last orders may stay open, and how long the audit may then take to be clean."
        ),
    ] = 90.0,
    run_directory: Annotated[
        Path | None, typer.Option(help="Where its data, logs and report go. Default: a new one under .run/chaos.")
    ] = None,
) -> None:
    """Run the whole system under load while faults are injected, and audit it.

    It starts a system and a RabbitMQ of its own, on free ports, and leaves nothing running. Every order and every
    cancellation that was answered with 202 is written to a journal on disk, and the audit is held against both.
    report.md and report.json in the run directory say which fault was injected when, the evidence for it, how long
    recovery took, and what was captured and refunded. With --compose it does so to the system that `docker compose`
    runs here, which goes on afterwards.

    Exit status 1 if anything was lost or doubled, a fault can't be shown to have happened, or recovery was slow;
    2 if it could not run.
    """
    console = text.console()
    if list_faults:
        _list(console, IN_CONTAINERS if compose else FAULTS)
        return
    found = _composed(console) if compose else None
    nodes = len(found.nodes) if found else nodes
    seed = random.randint(1, MAX_SEED) if seed is None else seed
    injections = draw(_chosen(console, faults, IN_CONTAINERS if found else FAULTS, nodes), minutes * 60, seed)
    report = ChaosReport(
        seed, rate, minutes * 60, injections, recover_within_seconds, quiet_within_seconds, cancel_share, nodes
    )
    directory = run_directory or new_directory("chaos", f"-{seed}")
    status = carry_out(
        console,
        "Chaos",
        directory,
        lambda reports: _chaos(console, report, partial(attached, found) if found else started, directory, reports),
        without_broker=None if found else WITHOUT_BROKER,
        failures=(NotRunning,),
    )
    raise typer.Exit(status)


def _composed(console: Console) -> Composed:
    try:
        return asyncio.run(composed())
    except ComposeError as error:
        console.print(f"[red]Chaos could not run.[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(COULD_NOT_RUN) from None


def _chosen(console: Console, names: str, kinds: Mapping[str, Fault[Any]], nodes: int) -> list[Fault[Any]]:
    """The named faults; without names, all that can be injected on this machine and on so many nodes."""
    try:
        faults = chosen(names, kinds)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--faults") from None
    if not names:
        faults = [fault for fault in faults if fault.nodes <= nodes]
    impossible = {fault.name: reason for fault in faults if (reason := _missing(fault, nodes))}
    for name, reason in impossible.items():
        if names:
            raise typer.BadParameter(f"{name}: {reason}", param_hint="--faults")
        console.print(f"Left out: {name}, because {reason}")
    return [fault for fault in faults if fault.name not in impossible]


def _missing(fault: Fault[Any], nodes: int) -> str:
    return f"it needs {fault.nodes} nodes of RabbitMQ" if fault.nodes > nodes else fault.missing()


Start = Callable[[ChaosReport, Path, Callable[[str], None]], AbstractAsyncContextManager[Chaos]]


async def _chaos(console: Console, report: ChaosReport, start: Start, directory: Path, reports: list[Report]) -> None:
    console.print(f"Seed {report.seed}: {len(report.injections)} faults")
    for injection in report.injections:
        console.print(f"  {injection.at_seconds:7.1f} s  {escape(str(injection))}")
    async with start(report, directory, lambda step: console.print(f"{step} ...")) as chaos:
        async with running(show(console, lambda: display.live(chaos), lambda: display.lines(chaos)), "display"):
            await chaos.run()
        reports.append(report)
        console.print("Stopping ...")


def _list(console: Console, kinds: Mapping[str, Fault[Any]]) -> None:
    table = Table("fault", "what it does", "targets")
    for name, fault in kinds.items():
        table.add_row(name, fault.meaning, ", ".join(fault.targets))
    console.print(table)

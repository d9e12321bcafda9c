"""`order-rail chaos`: the command itself."""

import json
import random
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from control_room.background import running
from control_room.experiments.chaos import display
from control_room.experiments.chaos.faults import FAULTS
from control_room.experiments.chaos.report import ChaosReport, to_markdown
from control_room.experiments.chaos.run import Plan, started
from control_room.experiments.chaos.schedule import Kind, chosen, draw
from control_room.launcher.installed import missing
from control_room.launcher.system import LaunchError
from control_room.operations.audit import AuditImpossible
from control_room.signals import run_until_signal
from shared.observability.logging import configure as configure_logging

PLAIN_WIDTH = 160
MAX_SEED = 999_999
COULD_NOT_RUN = 2
NEEDS_A_BROKER = (
    "It kills and freezes a RabbitMQ of its own, whatever RABBITMQ_URL names, and {} is not installed here. "
    "Run it natively: `make chaos`, or after control_room/launcher/install_prerequisites.sh. No container of ours has "
    "RabbitMQ and the services in one; there, use the buttons of the control room, or `docker compose kill` a service."
)
DATA = ("rabbitmq", "*.db", "*.db-wal", "*.db-shm")


def chaos(
    seed: Annotated[int | None, typer.Option(help="Draws what falls when. Default: a random one, printed.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the load lasts.")] = 10.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second.")] = 40.0,
    faults: Annotated[str, typer.Option(help="Names, separated by commas. Default: all of them.")] = "",
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Say what faults there are, and stop.")] = False,
    recover_within_seconds: Annotated[
        float, typer.Option(min=1, help="After the end of each fault. Slower is a failure.")
    ] = 15.0,
    quiet_within_seconds: Annotated[
        float, typer.Option(min=1, help="How long the last orders may take to settle, and the books to agree.")
    ] = 90.0,
    run_directory: Annotated[
        Path | None, typer.Option(help="Where its data, logs and report go. Default: a new one under .run/chaos.")
    ] = None,
) -> None:
    """Run the whole system under load while faults fall on it, and audit it.

    It starts a system and a RabbitMQ of its own, on free ports, and leaves nothing running. Every order that was
    answered with 202 is written to a journal on disk, and the audit is held against it. report.md and report.json in
    the run directory say what fell when, by what it was seen to happen, and how long recovery took.

    Exit status 1 if anything was lost or doubled, a fault can't be shown to have happened, or recovery was slow;
    2 if it could not run.
    """
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, emoji=False)
    if list_faults:
        _list(console)
        return
    if program := missing():
        console.print(f"[red]Chaos could not run.[/] {escape(NEEDS_A_BROKER.format(program))}", soft_wrap=True)
        raise typer.Exit(COULD_NOT_RUN)
    kinds = _chosen(console, faults)
    seed = random.randint(1, MAX_SEED) if seed is None else seed
    falls = draw(kinds, minutes * 60, seed)
    directory = run_directory or _new_directory(seed)
    plan = Plan(seed, rate, minutes * 60, falls, directory, recover_within_seconds, quiet_within_seconds)
    display.show_plan(console, seed, falls)
    raise typer.Exit(_run(console, plan))


def _chosen(console: Console, names: str) -> list[Kind]:
    """What is named; without names, all that can fall on this machine."""
    missing = {name: why for name, fault in FAULTS.items() if (why := fault.missing())}
    try:
        kinds = chosen(names, {name: fault.kind for name, fault in FAULTS.items()})
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--faults") from None
    for kind in kinds:
        if kind.name in missing and names:
            raise typer.BadParameter(f"{kind.name}: {missing[kind.name]}", param_hint="--faults")
        if kind.name in missing:
            console.print(f"Left out: {kind.name}, because {missing[kind.name]}")
    return [kind for kind in kinds if kind.name not in missing]


def _run(console: Console, plan: Plan) -> int:
    """The exit status."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    if any(plan.directory.glob("*.db")):
        console.print(f"[red]{escape(str(plan.directory))} holds the data of another run;[/] name an empty directory")
        return COULD_NOT_RUN
    reports: list[ChaosReport] = []
    try:
        with (plan.directory / "control_room.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
            configure_logging("control_room", "console", log)  # the terminal shows the run itself
            interrupted = run_until_signal(_chaos(console, plan, reports))
    except (LaunchError, AuditImpossible, OSError) as error:
        console.print(f"[red]Chaos could not run.[/] {escape(str(error))}", soft_wrap=True)
        return COULD_NOT_RUN
    if interrupted or not reports:
        return 130
    return _conclude(console, plan, reports[0])


async def _chaos(console: Console, plan: Plan, reports: list[ChaosReport]) -> None:
    async with started(plan, lambda step: console.print(f"{step} ...")) as chaos:
        async with running(display.watch(console, chaos), "display"):
            reports.append(await chaos.run())
        console.print("Stopping ...")


def _conclude(console: Console, plan: Plan, report: ChaosReport) -> int:
    (plan.directory / "report.md").write_text(to_markdown(report), encoding="utf-8")
    (plan.directory / "report.json").write_text(json.dumps(report.as_json(), indent=2))
    display.show_result(console, report)
    console.print(f"The report is {escape(str(plan.directory / 'report.md'))}", soft_wrap=True)
    if report.held:
        _remove_data(plan.directory)  # logs and reports are enough; a failure's data stays for whoever looks into it
    return 0 if report.held else 1


def _remove_data(directory: Path) -> None:
    for pattern in DATA:
        for path in directory.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _new_directory(seed: int) -> Path:
    return Path(".run/chaos") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{seed}"


def _list(console: Console) -> None:
    table = Table("fault", "what it does", "falls on")
    for name, fault in FAULTS.items():
        table.add_row(name, fault.meaning, ", ".join(fault.kind.targets))
    console.print(table)

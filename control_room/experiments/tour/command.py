"""`order-rail tour`: finds or starts a system, runs the tour, says what came of it."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from control_room.background import running
from control_room.experiments.client import connected
from control_room.experiments.experiment import FAILED, INTERRUPTED, show
from control_room.experiments.tour import display
from control_room.experiments.tour.runner import failures_of, reconcile, run
from control_room.experiments.tour.steps import STEPS, StepRun
from control_room.launcher import LaunchError
from control_room.launcher.system import launch
from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning, SystemAddresses, find_system
from control_room.operations.audit import AuditImpossible
from control_room.operations.roles import ORDERS
from control_room.signals import run_until_signal
from control_room.text import console as new_console
from shared.management import ManagementError

HOW_TO_START = (
    "Start one with `order-rail up` and run this again, "
    "or let `order-rail tour --start` (`make demo`) run one of its own."
)


class WentWrong(Exception):
    """Something on the tour was not as expected; it has been shown."""


def tour(
    start: Annotated[bool, typer.Option("--start", help="Run a system of its own for it, on free ports.")] = False,
    environment_file: Annotated[
        Path | None,
        typer.Option(help=f"Says where the system is. Default: {ENVIRONMENT_FILE}."),
    ] = None,
    deadline_seconds: Annotated[float, typer.Option(min=0.1, help="How long a step may take, retries apart.")] = 30.0,
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for a system that is starting.")] = 10.0,
) -> None:
    """Place real orders, follow them live, and check what came of each. Exit status 1 if anything is wrong."""
    console = new_console()
    try:
        if start:
            interrupted = run_until_signal(_on_own_system(console, deadline_seconds, wait_seconds))
        else:
            addresses = find_system(environment_file)
            interrupted = run_until_signal(_tour(console, addresses, deadline_seconds, wait_seconds))
    except NotRunning as error:
        _fail(console, f"{error}\n{HOW_TO_START}")
    except (LaunchError, ManagementError) as error:
        _fail(console, str(error))
    except WentWrong:
        raise typer.Exit(FAILED) from None
    if interrupted:
        raise typer.Exit(INTERRUPTED)


async def _on_own_system(console: Console, deadline_seconds: float, wait_seconds: float) -> None:
    """The tour on a system of its own; if anything is wrong its logs stay. Raises LaunchError and as `_tour`."""
    directory = Path(tempfile.mkdtemp(prefix="order-rail-tour-"))
    with ExitStack() as removal:
        removal.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            async with launch(directory, progress=lambda step: console.print(f"{step} ...")) as system:
                try:
                    await _tour(console, SystemAddresses.of(system.environment), deadline_seconds, wait_seconds)
                finally:
                    console.print("Stopping ...")
        except (WentWrong, NotRunning, LaunchError, ManagementError):
            removal.pop_all()
            console.print(f"The logs are in {escape(str(directory))}")
            raise


async def _tour(console: Console, addresses: SystemAddresses, deadline_seconds: float, wait_seconds: float) -> None:
    """Run the tour and show what came of it. Raises WentWrong, NotRunning, ManagementError."""
    steps = [StepRun(step) for step in STEPS]
    not_audited = []
    async with connected(addresses) as client:
        await client.wait_until_ready(wait_seconds)
        console.print(f"Placing {len(steps)} orders at {addresses.services[ORDERS.name]} ...")
        async with running(show(console, display.live(steps), lambda: display.lines(steps)), "display"):
            await run(client, steps, deadline_seconds)
        try:
            await reconcile(client, steps, deadline_seconds)
        except AuditImpossible as error:
            not_audited = [f"the audit was not possible: {error}"]
    failures = [*failures_of(steps), *not_audited]
    display.show_results(console, steps, failures)
    if failures:
        raise WentWrong


def _fail(console: Console, sentence: str) -> NoReturn:
    console.print(f"[red]{escape(sentence)}[/]", soft_wrap=True)
    raise typer.Exit(FAILED)

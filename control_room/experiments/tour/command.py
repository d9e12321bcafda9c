"""`order-rail tour`: finds or starts a system, runs the tour, says what came of it."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from control_room.background import running
from control_room.experiments.client import Client, connected
from control_room.experiments.tour import display
from control_room.experiments.tour.runner import StepRun, reconcile, run
from control_room.experiments.tour.steps import STEPS
from control_room.launcher import LaunchError
from control_room.launcher.system import launch
from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning, SystemAddresses, find_system
from control_room.operations.audit import AuditImpossible
from control_room.operations.roles import ORDERS
from control_room.signals import run_until_signal
from control_room.text import console
from shared.management import ManagementError

HOW_TO_START = (
    "Start one with `order-rail up` and run this again, "
    "or let `order-rail tour --start` (`make demo`) run one of its own."
)


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
    guide = _Tour(console(), deadline_seconds, wait_seconds)
    try:
        interrupted = run_until_signal(guide.start_and_run() if start else guide.run(find_system(environment_file)))
    except NotRunning as error:
        _fail(guide.console, f"{error}\n{HOW_TO_START}")
    except (LaunchError, ManagementError) as error:
        _fail(guide.console, str(error))
    if interrupted:
        raise typer.Exit(130)
    if not guide.is_right:
        raise typer.Exit(1)


class _Tour:
    """One tour. `is_right` once it is over and all of it held."""

    def __init__(self, console: Console, deadline_seconds: float, wait_seconds: float) -> None:
        self.console, self.deadline_seconds, self.wait_seconds = console, deadline_seconds, wait_seconds
        self.is_right = False

    async def start_and_run(self) -> None:
        """Run the tour on a system of its own; if anything is wrong its logs stay. Raises LaunchError."""
        directory = Path(tempfile.mkdtemp(prefix="order-rail-tour-"))
        try:
            async with launch(directory, progress=lambda step: self.console.print(f"{step} ...")) as system:
                try:
                    await self.run(SystemAddresses.of(system.environment))
                finally:
                    self.console.print("Stopping ...")
        except asyncio.CancelledError:  # an interrupted tour needs no logs
            shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            if self.is_right:
                shutil.rmtree(directory, ignore_errors=True)
            elif directory.exists():
                self.console.print(f"The logs are in {escape(str(directory))}")

    async def run(self, addresses: SystemAddresses) -> None:
        """Run the tour and print what came of it. Raises NotRunning."""
        steps = [StepRun(step) for step in STEPS]
        async with connected(addresses) as client:
            await client.wait_until_ready(self.wait_seconds)
            self.console.print(f"Placing {len(steps)} orders at {addresses.services[ORDERS.name]} ...")
            async with running(display.watch(self.console, steps), "display"):
                await run(client, steps, self.deadline_seconds)
            not_audited = await self._reconcile(client, steps)
        display.show_results(self.console, steps, not_audited)
        self.is_right = not not_audited and all(each.is_right for each in steps)

    async def _reconcile(self, client: Client, steps: list[StepRun]) -> str:
        """Why the audit was not possible; empty if it was."""
        try:
            await reconcile(client, steps, self.deadline_seconds)
        except AuditImpossible as error:
            return f"the audit was not possible: {error}"
        return ""


def _fail(console: Console, sentence: str) -> NoReturn:
    console.print(f"[red]{escape(sentence)}[/]", soft_wrap=True)
    raise typer.Exit(1)

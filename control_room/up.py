"""`order-rail up`: the whole system as processes of this machine, until Ctrl-C."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from control_room.launcher import LaunchError, Ports, System, launch
from control_room.signals import run_until_signal
from shared.logging import configure as configure_logging
from shared.settings import load

console = Console(highlight=False, soft_wrap=True)


def up(
    run_directory: Annotated[Path, typer.Option(help="Where its data and logs go.")] = Path(".run"),
) -> None:
    """Start RabbitMQ (unless RABBITMQ_URL is set) and the three services, and stay until Ctrl-C."""
    configure_logging("control_room", os.environ.get("LOG_FORMAT", "console"))
    ports = load(Ports)
    try:
        run_until_signal(_stay_up(run_directory, ports))
    except LaunchError as error:
        console.print(f"[red]Order Rail did not start.[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    console.print("Stopped.")


async def _stay_up(run_directory: Path, ports: Ports) -> None:
    async with launch(run_directory, ports, progress=lambda step: console.print(f"{step} ...")) as system:
        _introduce(system)
        try:
            await asyncio.Event().wait()
        finally:
            console.print("Stopping ...")


def _introduce(system: System) -> None:
    console.print("\n[bold green]Order Rail is running.[/] Ctrl-C stops it.")
    for service in system.processes:
        console.print(f"  {service:22}{system.url(service)}/docs")
    console.print(f"  {'RabbitMQ':22}{escape(system.broker_settings.management_url)}")
    console.print(f"  {'logs, addresses':22}{escape(str(system.run.path))}/*.log, environment\n")

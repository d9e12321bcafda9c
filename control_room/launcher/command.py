"""`order-rail up`: the whole system as processes of this machine, until Ctrl-C."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape

from control_room.dashboard.process_control.launcher import launcher_control
from control_room.dashboard.settings import check_settings
from control_room.launcher import LaunchError
from control_room.launcher.nodes_option import Nodes
from control_room.launcher.ports import CONTROL_ROOM, Ports, ports_of_environment
from control_room.launcher.system import System, launch
from control_room.operations.addresses import DISCARDS, SystemAddresses
from control_room.signals import run_until_signal
from control_room.text import SYSTEM
from shared.contract import services
from shared.observability.logging import configure as configure_logging
from shared.urls import without_credentials

EVENTS_KEPT_HOURS = 168
"""Unless the environment says another number."""

console = Console(highlight=False, soft_wrap=True, emoji=False)


def up(
    run_directory: Annotated[Path, typer.Option(help="Where its data and logs go.")] = Path(".run"),
    nodes: Nodes = 1,
) -> None:
    """Start RabbitMQ (unless RABBITMQ_URL is set), the services and the control room; stay until Ctrl-C."""
    configure_logging("control_room", os.environ.get("LOG_FORMAT", "console"))
    ports = ports_of_environment()
    check_settings()
    try:
        run_until_signal(_stay_up(run_directory, ports, nodes))
    except LaunchError as error:
        console.print(f"[red]{SYSTEM} did not start.[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    console.print("Stopped.")


async def _stay_up(run_directory: Path, ports: Ports, nodes: int) -> None:
    def progress(step: str) -> None:
        console.print(f"{step} ...")

    kept = {"EVENTS_KEPT_HOURS": os.environ.get("EVENTS_KEPT_HOURS") or str(EVENTS_KEPT_HOURS)}
    async with launch(run_directory, ports, kept, progress=progress, page=page, nodes=nodes) as system:
        _introduce(system)
        try:
            await asyncio.Event().wait()
        finally:
            console.print("Stopping ...")


@asynccontextmanager
async def page(system: System) -> AsyncIterator[None]:
    """The control room, in this process: it is the parent of the services, and so may signal them."""
    from control_room.dashboard.page.opening import opened  # noqa: PLC0415 - NiceGUI costs a second; other commands go without
    from control_room.dashboard.page.server import serving  # noqa: PLC0415
    from control_room.dashboard.snapshots.observer import watching  # noqa: PLC0415

    addresses, journal = SystemAddresses.of(system.environment), system.run.path / DISCARDS
    async with (
        watching(addresses) as observer,
        launcher_control(system.processes) as control,
        opened(addresses, journal, observer, control, system.processes) as room,
        serving(room, system.http_host, system.ports[CONTROL_ROOM]),
    ):
        yield


def _introduce(system: System) -> None:
    console.print(f"\n[bold green]{SYSTEM} is running.[/] Ctrl-C stops it.")
    link = f"{system.control_room_url}/?token={quote(system.operator_token, safe='')}"
    console.print(f"  {'control room':22}{escape(link)}")
    for contract in services():
        if contract.page is not None and contract.page.path != "/docs":
            console.print(f"  {contract.page.title.lower():22}{system.url(contract.name)}{contract.page.path}")
    for service in system.processes:
        console.print(f"  {service:22}{system.url(service)}/docs")
    console.print(f"  {'RabbitMQ':22}{escape(_broker_page(system))}")
    console.print(f"  {'logs, addresses':22}{escape(str(system.run.path))}/*.log, environment\n")


def _broker_page(system: System) -> str:
    """The address of RabbitMQ's page on each node, without a user's password; the private node's is no secret."""
    page = ", ".join(map(without_credentials, system.broker_settings.management_urls))
    return f"{page} (guest / guest)" if system.broker is not None else page

"""`order-rail flash-sale`: the command itself."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from control_room.background import running
from control_room.experiments.client import UNREACHABLE
from control_room.experiments.experiment import carry_out, new_directory, show
from control_room.experiments.flash_sale.display import lines, live
from control_room.experiments.flash_sale.report import SaleReport
from control_room.experiments.flash_sale.run import FlashSale, on_own_system, on_running_system
from control_room.experiments.flash_sale.sell import SaleFailed
from control_room.experiments.report import Report
from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning
from control_room.text import console as new_console

MOST_ORDERS = 1_000_000
MOST_ORDERS_A_SECOND = 5_000
DEFAULT_PAYMENTS_PER_MINUTE = 10_000
WITHOUT_BROKER = (
    "With --running it sells on the system that runs already; or run it natively, after "
    "control_room/launcher/install_prerequisites.sh."
)


def flash_sale(
    orders: Annotated[int, typer.Option(min=1, max=MOST_ORDERS, help="How many.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="They come at random times within so many.")] = 60.0,
    payments_per_minute: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, help=f"At the most, by a slow gateway. Default: {DEFAULT_PAYMENTS_PER_MINUTE}."
        ),
    ] = None,
    drain: Annotated[bool, typer.Option(help="Wait until every order is paid and its customer notified.")] = True,
    on_running: Annotated[
        bool, typer.Option("--running", help="On the system that runs already, at the pace that it has.")
    ] = False,
    environment_file: Annotated[
        Path | None, typer.Option(help=f"Says where that is. Implies --running. Default: {ENVIRONMENT_FILE}.")
    ] = None,
    run_directory: Annotated[
        Path | None, typer.Option(help="Where data, logs and report go. Default: a new one under .run/flash-sale.")
    ] = None,
) -> None:
    """Place many orders in a short time, and watch the backlog grow and drain.

    It starts a system and a RabbitMQ of its own, on free ports, and leaves nothing running. Orders come whether or not
    those before have been answered, and latency counts from the moment an order was due. report.md, report.json and
    chart.svg in the run directory say what came of it. Ctrl-C ends it at any time, with a report of what was seen.

    Exit status 1 if an order was refused or lost, or the audit is not clean; 2 if it could not run.
    """
    on_running = on_running or environment_file is not None
    _check(orders, seconds, payments_per_minute, on_running)
    pace = None if on_running else payments_per_minute or DEFAULT_PAYMENTS_PER_MINUTE
    report, console = SaleReport(orders, seconds, pace, drain), new_console()
    directory = run_directory or new_directory("flash-sale")
    own = on_own_system(report, directory, lambda step: console.print(f"{step} ..."))
    sale = on_running_system(report, directory, environment_file) if on_running else own
    status = carry_out(
        console,
        "The flash sale",
        directory,
        lambda reports: _sell(console, sale, reports),
        without_broker=None if on_running else WITHOUT_BROKER,
        failures=(NotRunning, SaleFailed, *UNREACHABLE),
    )
    raise typer.Exit(status)


def _check(orders: int, seconds: float, payments_per_minute: int | None, on_running: bool) -> None:
    if orders / seconds > MOST_ORDERS_A_SECOND:
        raise typer.BadParameter(
            f"{orders:,} in {seconds:g} s are {orders / seconds:,.0f} a second, and it places at most "
            f"{MOST_ORDERS_A_SECOND:,} a second; ask for fewer, or for more --seconds",
            param_hint="--orders",
        )
    if on_running and payments_per_minute is not None:
        raise typer.BadParameter(
            "a running system has its own pace, PAYMENT_CONCURRENCY and GATEWAY_LATENCY_SECONDS; leave this out",
            param_hint="--payments-per-minute",
        )


async def _sell(console: Console, system: AbstractAsyncContextManager[FlashSale], reports: list[Report]) -> None:
    async with system as sale:
        reports.append(sale.report)
        async with running(show(console, lambda: live(sale.report), lambda: lines(sale.report)), "display"):
            await sale.run()
        console.print("Stopping ...")

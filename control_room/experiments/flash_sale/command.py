"""`order-rail flash-sale`: the command itself."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from control_room.background import running
from control_room.experiments.flash_sale import display
from control_room.experiments.flash_sale.chart import chart
from control_room.experiments.flash_sale.report import SaleReport, to_markdown
from control_room.experiments.flash_sale.run import FlashSale, Plan, on_own_system, on_running_system
from control_room.experiments.flash_sale.sell import SaleFailed
from control_room.experiments.flash_sale.watch import UNREACHABLE
from control_room.launcher import LaunchError
from control_room.launcher.installed import missing
from control_room.launcher.run_directory import RunDirectory
from control_room.operations.addresses import ENVIRONMENT_FILE, NotRunning
from control_room.operations.audit import AuditImpossible
from control_room.signals import run_until_signal
from control_room.text import console as new_console
from shared.observability.logging import configure as configure_logging

COULD_NOT_RUN = 2
INTERRUPTED = 130
MOST_ORDERS = 1_000_000
MOST_ORDERS_A_SECOND = 5_000
DEFAULT_PAYMENTS_PER_MINUTE = 10_000
COPY_OUT = "COPY_OUT_COMMAND"
"""An environment variable of containers: the command that copies a directory, `{}` in it, out of the container."""

NEEDS_A_BROKER = (
    "It starts a system and a RabbitMQ of its own, whatever RABBITMQ_URL names, and {} is not installed here. "
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
    plan = Plan(orders, seconds, run_directory or _new_directory(), pace, drain)
    raise typer.Exit(_run(new_console(), plan, environment_file))


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


def _run(console: Console, plan: Plan, environment_file: Path | None) -> int:
    """The exit status."""
    if plan.is_own and (program := missing()):
        return _refuse(console, NEEDS_A_BROKER.format(program))
    directory = RunDirectory(plan.directory)
    if plan.is_own and directory.holds_data:
        return _refuse(console, f"{plan.directory} holds the data of another run; name an empty directory")
    sales: list[FlashSale] = []
    try:
        with (plan.directory / "control_room.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
            configure_logging("control_room", "console", log)  # the terminal shows the run itself
            interrupted = run_until_signal(_sell(console, plan, environment_file, sales))
    except (LaunchError, NotRunning, AuditImpossible, SaleFailed, *UNREACHABLE) as error:
        return _refuse(console, str(error))
    if not sales:
        return INTERRUPTED
    report = sales[0].report
    _conclude(console, plan, report)
    if report.held and plan.is_own:
        directory.remove_data()  # logs and reports are enough; only a failure's data is of use
    return INTERRUPTED if interrupted else 0 if report.held else 1


async def _sell(console: Console, plan: Plan, environment_file: Path | None, sales: list[FlashSale]) -> None:
    own = on_own_system(plan, lambda step: console.print(f"{step} ..."))
    async with own if plan.is_own else on_running_system(plan, environment_file) as sale:
        sales.append(sale)
        async with running(display.watch(console, sale), "display"):
            await sale.run()
        console.print("Stopping ...")


def _refuse(console: Console, why: str) -> int:
    console.print(f"[red]The flash sale could not be carried out.[/] {escape(why)}", soft_wrap=True)
    return COULD_NOT_RUN


def _conclude(console: Console, plan: Plan, report: SaleReport) -> None:
    (plan.directory / "report.md").write_text(to_markdown(report), encoding="utf-8")
    (plan.directory / "report.json").write_text(json.dumps(report.as_json(), indent=2))
    (plan.directory / "chart.svg").write_bytes(chart(report.looks))
    display.show_result(console, report)
    console.print(f"The report is {escape(str(plan.directory / 'report.md'))}", soft_wrap=True)
    if copy := os.environ.get(COPY_OUT):
        console.print(f"From outside: {escape(copy.replace('{}', str(plan.directory.absolute())))}", soft_wrap=True)


def _new_directory() -> Path:
    return Path(".run/flash-sale") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"

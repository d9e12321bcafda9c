"""A flash sale on the terminal: live there, plain lines where the output is no terminal."""

import asyncio
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from control_room.experiments.flash_sale.rail import Look, oldest_age_seconds, rate, seconds_to_drain
from control_room.experiments.flash_sale.report import SaleReport
from control_room.experiments.flash_sale.run import FlashSale
from control_room.text import duration

REFRESH_SECONDS = 0.5
STATUS_SECONDS = 5.0
STEPS = " ▁▂▃▄▅▆▇█"
WIDTH = 60

Value = Callable[[Sequence[Look]], float]
CURVES: tuple[tuple[str, str, Value, str], ...] = (
    ("accepted", "blue", lambda looks: rate(looks, "accepted"), "/s"),
    ("paid", "green", lambda looks: rate(looks, "paid"), "/s"),
    ("backlog", "yellow", lambda looks: looks[-1].backlog, ""),
)


async def watch(console: Console, sale: FlashSale) -> None:
    """Show how it goes, until cancelled."""
    if not console.is_terminal:
        await _watch_plain(console, sale)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            looks = sale.watch.looks or [Look(0.0, 0, 0)]
            live.update(Group(_heading(sale), _curves(looks), Text(_waiting(looks), style="dim")), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


async def _watch_plain(console: Console, sale: FlashSale) -> None:
    while True:
        await asyncio.sleep(STATUS_SECONDS)
        looks = sale.watch.looks or [Look(0.0, 0, 0)]
        console.print(
            f"{_heading(sale)}; {rate(looks, 'accepted'):,.0f} accepted/s, {rate(looks, 'paid'):,.0f} paid/s, "
            f"backlog {looks[-1].backlog:,}: {_waiting(looks)}",
            soft_wrap=True,
        )


def _heading(sale: FlashSale) -> Text:
    """The time, the phase, and the orders so far."""
    progress, looks = sale.progress, sale.watch.looks
    failed = progress.refused + progress.unanswered
    not_accepted = f", {failed:,} not" if failed else ""
    return Text(
        f"{looks[-1].seconds if looks else 0:4.0f} s  {sale.report.ended_in}: "
        f"{progress.accepted:,} of {sale.plan.orders:,} accepted{not_accepted}"
    )


def _curves(looks: Sequence[Look]) -> Table:
    """Accepted, paid and backlog: each since the beginning as a curve, now, and in all."""
    table = Table.grid(padding=(0, 2))
    in_all = (f"{looks[-1].accepted:,}", f"{looks[-1].paid:,}", "")
    for (name, colour, value, unit), count in zip(CURVES, in_all, strict=True):
        table.add_row(name, Text(_curve(looks, value), style=colour), f"{value(looks):,.0f}{unit}", count)
    return table


def _curve(looks: Sequence[Look], value: Value) -> str:
    """The value over time in one line of blocks, the highest of them full."""
    ends = range(1, len(looks) + 1, max(1, -(-len(looks) // WIDTH)))
    values = [value(looks[:end]) for end in ends]
    highest = max(values, default=0.0) or 1.0
    return "".join(STEPS[round(each / highest * (len(STEPS) - 1))] for each in values).ljust(WIDTH)


def _waiting(looks: Sequence[Look]) -> str:
    left, last = seconds_to_drain(looks), looks[-1]
    end = "no payments, so no end" if left is None else f"empty in {duration(left)} at this pace"
    return (
        f"{last.in_outbox:,} in the outbox, {last.in_queue:,} in RabbitMQ; "
        f"the oldest waits {duration(oldest_age_seconds(looks))}; {end}"
    )


def show_result(console: Console, report: SaleReport) -> None:
    """Whether it held, and if not, why."""
    if report.sale is not None:
        latency = report.sale.latency_seconds
        speed = f", p50 {1000 * latency['p50']:,.0f} ms, p99 {1000 * latency['p99']:,.0f} ms" if latency else ""
        console.print(
            f"{report.sale.accepted:,} of {report.orders:,} orders accepted in {report.sale.seconds:.1f} s{speed}."
        )
    console.print(f"Largest backlog {report.largest_backlog:,}; paid {report.paces or 'nothing'}.")
    if report.drained_seconds is not None and report.predicted_seconds is not None:
        predicted, actual = duration(report.predicted_seconds), duration(report.drained_seconds)
        console.print(f"Drained {actual} after the last order; predicted: {predicted}.")
    for failure in report.failures:
        console.print(f"[red]FAILED[/] {escape(failure)}", soft_wrap=True)
    if report.held:
        console.print("[bold green]All of it held:[/] every order accepted, none lost, the audit clean.")

"""A flash sale on the terminal: live while somebody watches, plain lines where nobody does."""

import asyncio
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from control_room.experiments.flash_sale.rail import (
    Look,
    accepted_rate,
    oldest_age_seconds,
    paid_rate,
    seconds_to_drain,
)
from control_room.experiments.flash_sale.report import SaleReport
from control_room.experiments.flash_sale.run import FlashSale
from control_room.experiments.flash_sale.sell import SaleResult

REFRESH_SECONDS = 0.5
STATUS_SECONDS = 5.0
STEPS = " ▁▂▃▄▅▆▇█"
WIDTH = 60


async def watch(console: Console, sale: FlashSale) -> None:
    """Show how it goes, until cancelled."""
    if not console.is_terminal:
        await _watch_plain(console, sale)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            waiting = Text(_waiting(sale.watch.looks), style="dim")
            live.update(Group(_heading(sale), _picture(sale.watch.looks), waiting), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


def _heading(sale: FlashSale) -> Text:
    """The time, what happens just now, and how the customers fare."""
    seen = sale.progress
    refused = f", {seen.refused + seen.unanswered:,} not" if seen.refused or seen.unanswered else ""
    return Text(f"{_time(sale.watch.looks)}  {sale.phase}: {seen.accepted:,} of {sale.plan.orders:,} accepted{refused}")


def _picture(looks: Sequence[Look]) -> Table:
    """What comes in, what goes out and what waits: each as it has been since the beginning, now, and in all."""
    looks = looks or [Look(0.0, 0, 0)]
    last = looks[-1]
    table = Table.grid(padding=(0, 2))
    for name, colour, value, unit, in_all in (
        ("accepted", "blue", accepted_rate, "/s", f"{last.accepted:,}"),
        ("paid", "green", paid_rate, "/s", f"{last.paid:,}"),
        ("backlog", "yellow", _backlog, "", ""),
    ):
        table.add_row(name, Text(_line(looks, value), style=colour), f"{value(looks):,.0f}{unit}", in_all)
    return table


def _backlog(looks: Sequence[Look]) -> float:
    return looks[-1].backlog


def _line(looks: Sequence[Look], value: Callable[[Sequence[Look]], float]) -> str:
    """The value over time in one line of blocks, the highest of them full."""
    ends = range(1, len(looks) + 1, max(1, -(-len(looks) // WIDTH)))
    values = [value(looks[:end]) for end in ends]
    highest = max(values, default=0.0) or 1.0
    return "".join(STEPS[round(each / highest * (len(STEPS) - 1))] for each in values).ljust(WIDTH)


def _waiting(looks: Sequence[Look]) -> str:
    left = seconds_to_drain(looks)
    end = "no payments, so no end" if left is None else f"empty in {_duration(left)} at this pace"
    last = looks[-1] if looks else Look(0, 0, 0)
    return (
        f"{last.in_outbox:,} in the outbox, {last.in_queue:,} in RabbitMQ; "
        f"the oldest waits {_duration(oldest_age_seconds(looks))}; {end}"
    )


async def _watch_plain(console: Console, sale: FlashSale) -> None:
    while True:
        await asyncio.sleep(STATUS_SECONDS)
        looks = sale.watch.looks
        console.print(
            f"{_heading(sale)}; {accepted_rate(looks):,.0f} accepted/s, {paid_rate(looks):,.0f} paid/s, "
            f"backlog {looks[-1].backlog if looks else 0:,}: {_waiting(looks)}",
            soft_wrap=True,
        )


def _time(looks: Sequence[Look]) -> str:
    return f"{looks[-1].seconds if looks else 0:4.0f} s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def show_result(console: Console, report: SaleReport) -> None:
    """Whether it held, and if not, why."""
    if report.sale is not None:
        latency = report.sale.latency_seconds
        told = f", p50 {1000 * latency['p50']:,.0f} ms, p99 {1000 * latency['p99']:,.0f} ms" if latency else ""
        console.print(
            f"{report.sale.accepted:,} of {report.orders:,} orders accepted in {report.sale.seconds:.1f} s{told}."
        )
    paces = ", ".join(f"{pace:,.0f} a minute {when}" for when, pace in report.paid_per_minute.items())
    console.print(f"Largest backlog {report.largest_backlog:,}; paid {paces or 'nothing'}.")
    if report.drained_seconds is not None and report.predicted_seconds is not None:
        predicted, actual = _duration(report.predicted_seconds), _duration(report.drained_seconds)
        console.print(f"Drained {actual} after the last order; predicted: {predicted}.")
    for failure in report.failures:
        console.print(f"[red]FAILED[/] {escape(failure)}", soft_wrap=True)
    if report.held:
        console.print("[bold green]All of it held:[/] every order accepted, none lost, the books agree.")


def _customers(sale: SaleResult, orders: int) -> str:
    told = "".join(f", {name} {1000 * seconds:,.0f} ms" for name, seconds in sale.latency_seconds.items())
    return f"{sale.accepted:,} of {orders:,} orders accepted in {sale.seconds:.1f} s{told}."

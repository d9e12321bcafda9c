"""A chaos run on the terminal: live while somebody watches, plain lines where nobody does."""

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from control_room.experiments.chaos.report import ChaosReport
from control_room.experiments.chaos.run import Chaos, Falling
from control_room.experiments.chaos.schedule import Fall

REFRESH_SECONDS = 0.25
STATUS_SECONDS = 10.0
SHOWN_FALLS = 12


def show_plan(console: Console, seed: int, falls: list[Fall]) -> None:
    """What will fall when."""
    console.print(f"Seed {seed}: {len(falls)} faults")
    for fall in falls:
        console.print(f"  {fall.at_seconds:7.1f} s  {escape(str(fall))}")


async def watch(console: Console, chaos: Chaos) -> None:
    """Show how it goes, until cancelled."""
    if console.is_terminal:
        await _watch_live(console, chaos)
    else:
        await _watch_plain(console, chaos)


async def _watch_live(console: Console, chaos: Chaos) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Group(_numbers(chaos), _falls(chaos)), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


def _numbers(chaos: Chaos) -> Table:
    table = Table("time", "accepted", "settled", "in flight", "duplicates suppressed", "told again", "now")
    tally, orders = chaos.customers.tally, chaos.watch.orders
    counts = (tally.accepted, orders.settled, len(orders), chaos.watch.duplicates, chaos.watch.swept)
    table.add_row(_elapsed(chaos), *(str(count) for count in counts), escape(chaos.phase))
    return table


def _falls(chaos: Chaos) -> Table:
    table = Table("at", "fault", "on", "state", "evidence", title="Faults")
    begun = [falling for falling in chaos.falls if falling.state != "planned"]
    for falling in begun[-SHOWN_FALLS:]:
        fall = falling.fall
        table.add_row(f"{falling.at_seconds:.0f} s", fall.fault, fall.target, _state(falling), escape(_seen(falling)))
    return table


def _state(falling: Falling) -> str:
    if falling.problem:
        return "[red]no evidence[/]"
    return f"back after {falling.back_seconds:.1f} s" if falling.back_seconds is not None else falling.state


def _seen(falling: Falling) -> str:
    return "; ".join([*falling.marks.evidence, *([falling.problem] if falling.problem else [])])


async def _watch_plain(console: Console, chaos: Chaos) -> None:
    said: dict[int, str] = {}
    status_at = 0.0
    try:
        while True:
            _say_news(console, chaos, said)
            if time.monotonic() >= status_at:
                status_at = time.monotonic() + STATUS_SECONDS
                console.print(_status(chaos))
            await asyncio.sleep(REFRESH_SECONDS)
    finally:
        _say_news(console, chaos, said)


def _say_news(console: Console, chaos: Chaos, said: dict[int, str]) -> None:
    for index, falling in enumerate(chaos.falls):
        if falling.state == said.get(index, "planned"):
            continue
        said[index] = falling.state
        seen = f" ({_state(falling)}): {_seen(falling)}" if falling.state == "over" else ""
        console.print(escape(f"{_elapsed(chaos):>7}  {falling.fall}: {falling.state}{seen}"), soft_wrap=True)


def _status(chaos: Chaos) -> str:
    tally, orders = chaos.customers.tally, chaos.watch.orders
    return (
        f"{_elapsed(chaos):>7}  {tally.accepted} accepted, {orders.settled} settled, {len(orders)} in flight, "
        f"{chaos.watch.duplicates} duplicates suppressed; {escape(chaos.phase)}"
    )


def _elapsed(chaos: Chaos) -> str:
    return f"{time.monotonic() - chaos.began_at:.0f} s"


def show_result(console: Console, report: ChaosReport) -> None:
    """Whether it held, and if not, why."""
    console.print(
        f"{report.load.accepted} orders accepted, {report.settled} settled, {len(report.falls)} faults, "
        f"{report.duplicates} duplicates suppressed, {report.swept} orders told again."
    )
    for failure in report.failures:
        console.print(f"[red]FAILED[/] {escape(failure)}", soft_wrap=True)
    if report.held:
        console.print("[bold green]All of it held:[/] nothing lost, nobody charged twice, every fault seen to happen.")

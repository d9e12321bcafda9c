"""The tour on the terminal: live while it runs, a table at the end. Plain lines where nobody watches."""

import asyncio
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from control_room.experiments.tour.runner import Leg
from control_room.experiments.tour.steps import duration

REFRESH_SECONDS = 0.1
VERDICTS = {True: "[green]right[/]", False: "[red]WRONG[/]"}


async def watch(console: Console, legs: Sequence[Leg]) -> None:
    """Show how far each step is, until cancelled."""
    if console.is_terminal:
        await _watch_live(console, legs)
    else:
        await _watch_plain(console, legs)


async def _watch_live(console: Console, legs: Sequence[Leg]) -> None:
    spinners = {leg.step.title: Spinner("dots") for leg in legs}
    with Live(console=console, refresh_per_second=1 / REFRESH_SECONDS, transient=True) as live:
        while True:
            live.update(_progress_table(legs, spinners))
            await asyncio.sleep(REFRESH_SECONDS)


def _progress_table(legs: Sequence[Leg], spinners: dict[str, Spinner]) -> Table:
    table = Table("", "step", "now", "answered in", "settled after", title="The tour: orders on their way")
    for leg in legs:
        mark = spinners[leg.step.title] if leg.right is None else VERDICTS[leg.right]
        answered = _shown(leg.progress.placed_in_seconds)
        table.add_row(mark, leg.step.title, escape(leg.progress.now), answered, _settled(leg))
    return table


def _settled(leg: Leg) -> str:
    settled, elapsed = leg.progress.settled_after_seconds, leg.progress.elapsed_seconds
    if settled is not None or leg.right is not None:
        return _shown(settled)
    return f"[dim]{_shown(elapsed)} so far[/]" if elapsed else ""


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


async def _watch_plain(console: Console, legs: Sequence[Leg]) -> None:
    said = {leg.step.title: leg.progress.now for leg in legs}
    try:
        while True:
            _say_news(console, legs, said)
            await asyncio.sleep(REFRESH_SECONDS)
    finally:
        _say_news(console, legs, said)


def _say_news(console: Console, legs: Sequence[Leg], said: dict[str, str]) -> None:
    for leg in legs:
        if said[leg.step.title] != leg.progress.now:
            said[leg.step.title] = leg.progress.now
            console.print(f"{leg.step.title:16} {escape(leg.progress.now)}")


def show_results(console: Console, legs: Sequence[Leg], unread: str) -> None:
    """What was asked, what was expected, what happened, and whether that is right. `unread`: why there are no books."""
    table = Table("asked", "expected", "happened", "", show_lines=True, title="The tour")
    for leg in legs:
        cells = (leg.step.asked, leg.step.expected, leg.happened)
        table.add_row(*(escape(cell) for cell in cells), VERDICTS[leg.right is True])
    console.print(table)
    wrong = [leg for leg in legs if not leg.right]
    for leg in wrong:
        order = f" (order {leg.progress.order_id})" if leg.progress.order_id else ""
        console.print(f"[red]WRONG[/] {escape(f'{leg.step.title}{order}: {leg.happened}')}", soft_wrap=True)
    if unread:
        console.print(f"[red]WRONG[/] {escape(unread)}", soft_wrap=True)
    if not wrong and not unread:
        _show_point(console, legs)


def _show_point(console: Console, legs: Sequence[Leg]) -> None:
    charged = sum(leg.step.charges for leg in legs)
    console.print(
        f"The books of all three services agree: {len(legs)} orders, each settled once; "
        f"{charged} charged, each exactly once; {len(legs) - charged} not charged at all."
    )
    answered = median(leg.progress.placed_in_seconds or 0 for leg in legs)
    normal = next(leg.progress for leg in legs if leg.step.title == "normal")
    behind = (normal.settled_after_seconds or 0) - (normal.placed_in_seconds or 0)
    console.print(
        f"Customers waited {_shown(answered)} for an answer (the median); "
        f"payment and email of the normal order took {_shown(behind)} more, behind the queue."
    )
    console.print("[bold green]All of it held.[/]")

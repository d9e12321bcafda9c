"""The tour on the terminal: live while it runs, a table at the end. Plain lines where the output is no terminal."""

import asyncio
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from control_room.experiments.tour.runner import StepRun
from control_room.text import duration

REFRESH_SECONDS = 0.1
VERDICTS = {True: "[green]right[/]", False: "[red]WRONG[/]"}


async def watch(console: Console, steps: Sequence[StepRun]) -> None:
    """Show how far each step is, until cancelled."""
    if console.is_terminal:
        await _watch_live(console, steps)
    else:
        await _watch_plain(console, steps)


async def _watch_live(console: Console, steps: Sequence[StepRun]) -> None:
    spinners = {each.step.title: Spinner("dots") for each in steps}
    with Live(console=console, refresh_per_second=1 / REFRESH_SECONDS, transient=True) as live:
        while True:
            live.update(_progress_table(steps, spinners))
            await asyncio.sleep(REFRESH_SECONDS)


def _progress_table(steps: Sequence[StepRun], spinners: dict[str, Spinner]) -> Table:
    table = Table("", "step", "now", "answered in", "ended after", title="The tour: orders on their way")
    for each in steps:
        mark = spinners[each.step.title] if each.is_right is None else VERDICTS[each.is_right]
        answered = _seconds(each.progress.answered_after_seconds)
        table.add_row(mark, each.step.title, escape(each.progress.now), answered, _ended_after(each))
    return table


def _ended_after(run: StepRun) -> str:
    ended, elapsed = run.progress.ended_after_seconds, run.progress.elapsed_seconds
    if ended is not None or run.is_right is not None:
        return _seconds(ended)
    return f"[dim]{duration(elapsed)} so far[/]" if elapsed else ""


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


async def _watch_plain(console: Console, steps: Sequence[StepRun]) -> None:
    printed = {each.step.title: each.progress.now for each in steps}
    try:
        while True:
            _print_changes(console, steps, printed)
            await asyncio.sleep(REFRESH_SECONDS)
    finally:
        _print_changes(console, steps, printed)


def _print_changes(console: Console, steps: Sequence[StepRun], printed: dict[str, str]) -> None:
    for each in steps:
        if printed[each.step.title] != each.progress.now:
            printed[each.step.title] = each.progress.now
            console.print(f"{each.step.title:16} {escape(each.progress.now)}")


def show_results(console: Console, steps: Sequence[StepRun], not_audited: str) -> None:
    """What was asked, expected and seen, and whether that is right. `not_audited`: why there was no audit."""
    table = Table("asked", "expected", "happened", "", show_lines=True, title="The tour")
    for each in steps:
        cells = (each.step.asked, each.step.expected, each.happened)
        table.add_row(*(escape(cell) for cell in cells), VERDICTS[each.is_right is True])
    console.print(table)
    failures = [
        f"{each.step.title}{f' (order {each.progress.order_id})' * bool(each.progress.order_id)}: {each.happened}"
        for each in steps
        if not each.is_right
    ]
    failures += [not_audited] * bool(not_audited)
    for failure in failures:
        console.print(f"[red]WRONG[/] {escape(failure)}", soft_wrap=True)
    if not failures:
        _show_summary(console, steps)


def _show_summary(console: Console, steps: Sequence[StepRun]) -> None:
    charged = sum(each.step.charges for each in steps)
    console.print(
        f"The records of all three services agree: {len(steps)} orders, each ended once; "
        f"{charged} charged, each exactly once; {len(steps) - charged} not charged at all."
    )
    answered = median(each.progress.answered_after_seconds or 0 for each in steps)
    normal = next(each.progress for each in steps if each.step.title == "normal")
    behind = (normal.ended_after_seconds or 0) - (normal.answered_after_seconds or 0)
    console.print(
        f"Customers waited {duration(answered)} for an answer (the median); "
        f"payment and email of the normal order took {duration(behind)} more, behind the queue."
    )
    console.print("[bold green]All of it held.[/]")

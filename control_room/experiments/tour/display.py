"""The tour on the terminal: a table while it runs, plain lines where the output is no terminal; a table at the end."""

from collections.abc import Callable, Sequence
from statistics import median

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from control_room.experiments.experiment import Lines
from control_room.experiments.tour.steps import StepRun
from control_room.text import duration

VERDICTS = {True: "[green]right[/]", False: "[red]WRONG[/]"}


def live(steps: Sequence[StepRun]) -> Callable[[], RenderableType]:
    """What draws the table of how far each step is."""
    spinner = Spinner("dots")

    def table() -> Table:
        table = Table("", "step", "now", "answered in", "ended after", title="The tour: orders on their way")
        for each in steps:
            mark = spinner if each.is_right is None else VERDICTS[each.is_right]
            answered = _seconds(each.answered_after_seconds)
            table.add_row(mark, each.step.title, escape(each.now), answered, _ended_after(each))
        return table

    return table


def lines(steps: Sequence[StepRun]) -> Lines:
    """Each step that has begun, and how far it is."""
    for each in steps:
        if each.started_at is not None:
            line = f"{each.step.title:16} {each.now}"
            yield line, line


def _ended_after(run: StepRun) -> str:
    ended, elapsed = run.ended_after_seconds, run.elapsed_seconds
    if ended is not None or run.is_right is not None:
        return _seconds(ended)
    return f"[dim]{duration(elapsed)} so far[/]" if elapsed else ""


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def show_results(console: Console, steps: Sequence[StepRun], failures: Sequence[str]) -> None:
    """What was asked, expected and seen, whether that is right, and what went wrong."""
    table = Table("asked", "expected", "happened", "", show_lines=True, title="The tour")
    for each in steps:
        cells = (each.step.asked, each.step.expected, each.happened)
        table.add_row(*(escape(cell) for cell in cells), VERDICTS[each.is_right is True])
    console.print(table)
    for failure in failures:
        console.print(f"[red]WRONG[/] {escape(failure)}", soft_wrap=True)
    if not failures:
        _show_summary(console, steps)


def _show_summary(console: Console, steps: Sequence[StepRun]) -> None:
    charged = sum(each.step.charges for each in steps)
    refunded = sum(each.step.status == "refunded" for each in steps)
    console.print(
        f"The records of all three services agree: {len(steps)} orders, each ended once; "
        f"{charged} charged, each exactly once, and {refunded} of them refunded once; "
        f"{len(steps) - charged} not charged at all."
    )
    answered = median(each.answered_after_seconds or 0 for each in steps)
    normal = next(each for each in steps if each.step.title == "normal")
    behind = (normal.ended_after_seconds or 0) - (normal.answered_after_seconds or 0)
    console.print(
        f"Customers waited {duration(answered)} for an answer (the median); "
        f"payment and email of the normal order took {duration(behind)} more, behind the queue."
    )
    console.print("[bold green]All of it held.[/]")

"""What the experiments of the command line share: they show how they go, write reports, and end with a status."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Hashable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape

from control_room.experiments.report import Report
from control_room.launcher import LaunchError
from control_room.launcher.installed import missing
from control_room.launcher.run_directory import RunDirectory
from control_room.operations.audit import AuditImpossible
from control_room.signals import run_until_signal
from shared.observability.logging import configure as configure_logging

HELD, FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""
REFRESH_SECONDS = 0.2
COPY_OUT = "COPY_OUT_COMMAND"
"""An environment variable of containers: the command that copies a directory, `{}` in it, out of the container."""

Experiment = Callable[[list[Report]], Coroutine[Any, Any, None]]
"""Carries the experiment out; appends its report to the list as soon as there is something to report."""
Lines = Iterable[tuple[Hashable, str]]
"""Each with a key: a line is printed when its key appears for the first time."""


def new_directory(experiment: str, suffix: str = "") -> Path:
    """The run directory of an experiment that starts now."""
    return Path(".run") / experiment / f"{datetime.now(UTC):%Y%m%d-%H%M%S}{suffix}"


def carry_out(
    console: Console,
    title: str,
    directory: Path,
    experiment: Experiment,
    *,
    without_broker: str | None,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Run an experiment until its end or a signal, then write and show its report; the exit status.

    `without_broker`: what to do where RabbitMQ is not installed; None if the experiment needs no broker of its own.
    `failures`: the exceptions that may end it besides LaunchError, AuditImpossible and OSError.
    """
    reports: list[Report] = []
    expected: tuple[type[Exception], ...] = (LaunchError, AuditImpossible, OSError, *failures)
    try:
        if without_broker is not None:
            _check(directory, without_broker)
        interrupted = _run(RunDirectory(directory), experiment(reports))
    except expected as error:
        console.print(f"[red]{title} could not run.[/] {escape(str(error))}", soft_wrap=True)
        return COULD_NOT_RUN
    for report in reports:
        _conclude(console, directory, report)
        if report.held and without_broker is not None:
            RunDirectory(directory).remove_data()  # after a failure it stays, to be looked into
    return INTERRUPTED if interrupted or not reports else HELD if reports[0].held else FAILED


def _check(directory: Path, without_broker: str) -> None:
    """Raises LaunchError where no private system can be started."""
    if program := missing():
        why = f"It uses a RabbitMQ of its own, whatever RABBITMQ_URL names, and {program} is not installed here."
        raise LaunchError(f"{why} {without_broker}")
    if RunDirectory(directory).holds_data:
        raise LaunchError(f"{directory} holds the data of another run; name an empty directory")


def _run(directory: RunDirectory, experiment: Coroutine[Any, Any, None]) -> bool:
    """Whether a signal ended it. Its logs go to a file, since the terminal shows the run itself."""
    with directory.log("control_room").open("a", encoding="utf-8", errors="backslashreplace") as log:
        configure_logging("control_room", "console", log)
        return run_until_signal(experiment)


def _conclude(console: Console, directory: Path, report: Report) -> None:
    (directory / "report.md").write_text(report.as_markdown(), encoding="utf-8")
    (directory / "report.json").write_text(json.dumps(report.as_json(), indent=2))
    for name, content in report.attachments().items():
        (directory / name).write_bytes(content)
    for line in report.summary():
        console.print(line)
    for failure in report.failures:
        console.print(f"[red]FAILED[/] {escape(failure)}", soft_wrap=True)
    if report.held:
        console.print(f"[bold green]All of it held:[/] {report.PROMISE}")
    console.print(f"The report is {escape(str(directory / 'report.md'))}", soft_wrap=True)
    if copy := os.environ.get(COPY_OUT):
        console.print(f"From outside: {escape(copy.replace('{}', str(directory.absolute())))}", soft_wrap=True)


async def show(console: Console, live: Callable[[], RenderableType], plain: Callable[[], Lines]) -> None:
    """Show how an experiment goes, until cancelled: redrawn on a terminal, in lines where the output is no terminal."""
    if console.is_terminal:
        with Live(console=console, get_renderable=live, auto_refresh=False, transient=True) as display:
            while True:
                display.refresh()
                await asyncio.sleep(REFRESH_SECONDS)
    printed: set[Hashable] = set()
    try:
        while True:
            _print_new(console, plain(), printed)
            await asyncio.sleep(REFRESH_SECONDS)
    finally:
        _print_new(console, plain(), printed)


def _print_new(console: Console, lines: Lines, printed: set[Hashable]) -> None:
    for key, line in lines:
        if key not in printed:
            printed.add(key)
            console.print(escape(line), soft_wrap=True)

"""The results as tables: on the terminal, and as Markdown."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CEILINGS, ORDER_RAIL, PEERS, REPOSITORY, order_rail_before
from benchmarks.databases import TITLES as DATABASE_TITLES
from benchmarks.goals import Verdict
from benchmarks.results import Results
from control_room.text import markdown_table

EVERYONE = (ORDER_RAIL, order_rail_before(REPOSITORY), *PEERS, *CEILINGS)
TITLES = {contender.name: contender.title for contender in EVERYONE}
COLUMNS = ("contender", "what", "median", "lowest", "highest", "rounds")
GOAL_COLUMNS = ("goal", "bound", "measured", "met", "command")

Cells = list[str]


def show(console: Console, results: Results, verdicts: list[Verdict]) -> None:
    """Print one table for each measurement, and the goals."""
    for measurement, database in results.measurements:
        _print(console, title_of(measurement, database), COLUMNS, _rows(results, measurement, database))
    _print(console, "goals", GOAL_COLUMNS, _goal_rows(verdicts))


def to_markdown(results: Results, verdicts: list[Verdict]) -> str:
    """The same as Markdown, after a line about the machine."""
    parts = [machine_line(results.machine)]
    for measurement, database in results.measurements:
        rows = _rows(results, measurement, database)
        parts += [f"### {title_of(measurement, database)}", "\n".join(markdown_table(COLUMNS, rows))]
    if verdicts:
        parts += ["### goals", "\n".join(markdown_table(GOAL_COLUMNS, _goal_rows(verdicts)))]
    return "\n\n".join(parts) + "\n"


def machine_line(machine: dict[str, Any]) -> str:
    """What it was measured on, in two sentences."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}, "
        f"fdatasync {machine['fdatasync_ms']} ms; Python {machine['python']}, RabbitMQ {machine['rabbitmq']}, "
        f"{packages}. Measured at {machine['measured_at']}; busy with other things: "
        f"{machine.get('busy_before_percent', 0):.0f} % before each run, in the median."
    )


def title_of(measurement: str, database: str) -> str:
    """What was measured, and on which database."""
    return f"{measurement}, {DATABASE_TITLES[database]}"


def number(value: float) -> str:
    """Three digits that mean something, and never fewer than the whole number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _rows(results: Results, measurement: str, database: str) -> Iterator[Cells]:
    for row in results.as_json()["quantities"]:
        if (row["measurement"], row["database"]) == (measurement, database):
            title = TITLES.get(row["contender"], row["contender"])
            spread = [f"{number(row[key])}" for key in ("median", "lowest", "highest")]
            yield [title, f"{row['quantity']} ({row['unit']})", *spread, str(len(row["values"]))]


def _goal_rows(verdicts: list[Verdict]) -> Iterator[Cells]:
    for each in verdicts:
        yield [each.goal, each.bound, number(each.value), "yes" if each.is_met else "no", each.command]


def _print(console: Console, title: str, columns: tuple[str, ...], rows: Iterator[Cells]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)

"""How the control room writes for people: durations, percentiles, tables, and the console that commands print on."""

import logging
import sys
from collections.abc import Iterable, Sequence

import structlog
from rich.console import Console

SYSTEM = "Order Rail"
"""The name of the system."""

PLAIN_WIDTH = 200
"""Of what goes to a file or a pipe, so that no row of a table is broken."""

_UNITS = (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def console() -> Console:
    """Prints to standard output. Colours only what the markup says, and leaves `:emoji:` codes as they are."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, emoji=False)


def silence_logs() -> None:
    """Log only critical errors in this process: for commands whose output people and machines read."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger().setLevel(logging.CRITICAL)


def duration(seconds: float) -> str:
    """`12 ms`, `3.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 7 h`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, length, smaller_unit, smaller_length in _UNITS:
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // smaller_length} {smaller_unit}"
    return f"{whole} s"


def money(amount_minor: int, currency: str) -> str:
    """Such as 1,234.50 EUR."""
    return f"{amount_minor / 100:,.2f} {currency}"


def counted(number: int, noun: str) -> str:
    """`1 message`, `1,200 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of all do not exceed; 0 if there are none."""
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, int(rank) - 1)] if ascending else 0.0


def percentiles(values: Iterable[float], percents: Sequence[float] = (50, 95, 99, 99.9)) -> dict[str, float]:
    """By name (`p50`, `p99.9`, `max`); empty if there are no values."""
    ascending = sorted(values)
    if not ascending:
        return {}
    return {**{f"p{percent:g}": percentile(ascending, percent) for percent in percents}, "max": ascending[-1]}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; a cell may contain anything."""
    return [_markdown_row(cells) for cells in (columns, ["---"] * len(columns), *rows)]


def markdown_cell(text: str) -> str:
    """The text on one line, without a sign that would end a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(markdown_cell, cells))} |"

"""How a flash sale goes, on the terminal: curves that are redrawn, plain lines where the output is no terminal."""

from collections.abc import Callable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from control_room.experiments.experiment import Lines
from control_room.experiments.flash_sale.rail import Look, oldest_age_seconds, rate, seconds_to_drain
from control_room.experiments.flash_sale.report import SaleReport
from control_room.experiments.traffic import LoadReport
from control_room.text import duration

STATUS_SECONDS = 5.0
STEPS = " ▁▂▃▄▅▆▇█"
WIDTH = 60

Value = Callable[[Sequence[Look]], float]
CURVES: tuple[tuple[str, str, Value, str], ...] = (
    ("accepted", "blue", lambda looks: rate(looks, "accepted"), "/s"),
    ("paid", "green", lambda looks: rate(looks, "paid"), "/s"),
    ("backlog", "yellow", lambda looks: looks[-1].backlog, ""),
)


def live(sale: SaleReport) -> Group:
    """The sale as curves."""
    return Group(_heading(sale), curves(sale.looks), Text(_waiting(sale.looks), style="dim"))


def lines(sale: SaleReport) -> Lines:
    """The sale in a line, every few seconds."""
    looks = sale.looks
    rates = f"{rate(looks, 'accepted'):,.0f} accepted/s, {rate(looks, 'paid'):,.0f} paid/s"
    line = f"{_heading(sale)}; {rates}, backlog {looks[-1].backlog:,}: {_waiting(looks)}"
    return [(looks[-1].seconds // STATUS_SECONDS, line)]


def _heading(sale: SaleReport) -> str:
    """The time, the phase, and the orders so far."""
    customers = sale.sale or LoadReport()
    failed = sum(customers.refused.values()) + customers.unanswered
    not_accepted = f", {failed:,} not" if failed else ""
    phase = f"{sale.looks[-1].seconds:4.0f} s  {sale.ended_in}"
    return f"{phase}: {customers.accepted:,} of {sale.orders:,} accepted{not_accepted}"


def curves(looks: Sequence[Look]) -> Table:
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

"""What came of a run of the lab, as a table, a chart, Markdown and JSON. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pygal
from pygal.style import Style
from rich.console import RenderableType
from rich.table import Table

from control_room.experiments.lab.record import Outcome
from control_room.experiments.lab.ways import RIGHT, WAYS, SystemName
from control_room.experiments.report import Report, joined
from control_room.text import duration, markdown_table

COLUMNS = ("way", "lost", "twice", "stuck", "unasked", "orders/s", "recovered")
DAMAGE = {"lost": "lost", "duplicated": "done twice", "stuck": "stuck", "unasked": "done, and in no books"}
STYLE = Style(
    background="white", plot_background="white", foreground="#333333", foreground_strong="#111111",
    foreground_subtle="#777777", colors=("#dc2626", "#d97706", "#2563eb", "#7c3aed"), font_family="sans-serif",
)  # fmt: skip


@dataclass
class LabReport(Report):
    """`ways` by name, `orders` for each; `outcomes` once they are counted. `refused`: the ways left out here."""

    PROMISE = "each wrong way did its damage, and the right one none."

    system: SystemName
    orders: int
    ways: Sequence[str]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    refused: Sequence[str] = ()

    @property
    def failures(self) -> list[str]:
        if not self.outcomes:
            return self._left_out() or ["broken off before anything was counted"]
        return [sentence for name in self.outcomes if (sentence := self._failure(name))]

    def _failure(self, name: str) -> str:
        way, signs = WAYS[name], self.outcomes[name].signs()
        if missing := way.damage - signs:
            return f"{name}: nothing was {' or '.join(sorted(missing))}, although that is what this way does"
        if not way.damage and signs:
            return f"{name}: orders were {' and '.join(sorted(signs))}"
        return ""

    def as_json(self) -> dict[str, Any]:
        outcomes = {name: asdict(outcome) for name, outcome in self.outcomes.items()}
        asked = {"system": self.system, "orders": self.orders}
        return {"held": self.held, "failures": self.failures, **asked, "ways": outcomes, "refused": self.refused}

    def as_markdown(self) -> str:
        """Refers to the chart and to the records beside it."""
        asked = f"{self.orders:,} orders for each of {len(self.ways)} ways"
        heading = self.heading("The lab", asked, f"In short: {self.PROMISE}")
        links = [(f"[{name}]({name}.ndjson)", WAYS[name].lines, WAYS[name].why) for name in self.outcomes]
        return joined(
            [*heading, "![What the ways did to their orders](chart.svg)"],
            markdown_table(COLUMNS, self._rows()),
            self._left_out(),
            markdown_table(("way, and its record", "the lines that did it", "why"), links),
        )

    def attachments(self) -> Mapping[str, bytes]:
        return {"chart.svg": self._chart()} if self.outcomes else {}

    def summary(self) -> Iterator[RenderableType]:
        if self.outcomes:
            yield self._table()
            yield from self._left_out()
            for name in self.outcomes:
                yield f"{name:20} {WAYS[name].lines}\n{'':20} {WAYS[name].why}"
            yield "Beside the report: <way>.ndjson, the record from which the figures of a way are counted."

    def _left_out(self) -> list[str]:
        return [f"Without {name}: {WAYS[name].refused}." for name in self.refused]

    def _table(self) -> Table:
        table = Table(title=f"{self.orders:,} orders, the same faults", title_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column == "way" else "right", no_wrap=True)
        for row in self._rows():
            table.add_row(*row, style="bold" if row[0] == RIGHT[self.system] else None)
        return table

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for name, each in self.outcomes.items():
            recovered = "never" if each.recovered_seconds is None else duration(each.recovered_seconds)
            counts = (f"{count:,}" for count in (each.lost, each.duplicated, each.stuck, each.unasked))
            yield name, *counts, f"{each.per_second:,.0f}", recovered

    def _chart(self) -> bytes:
        """Without scripts and fonts from elsewhere."""
        drawing = pygal.HorizontalStackedBar(
            js=[], style=STYLE, width=1000, height=520, legend_at_bottom=True, print_values=True,
            title=f"What became of {self.orders:,} orders", x_title="orders",
            value_formatter=lambda value: f"{value:,.0f}" if value else "",
        )  # fmt: skip
        names = list(reversed(self.outcomes))  # the first one is drawn at the bottom
        drawing.x_labels = names
        for kind, label in DAMAGE.items():
            drawing.add(label, [getattr(self.outcomes[name], kind) for name in names])
        svg: bytes = drawing.render()
        return svg

"""The rail over time as an SVG that refers to nothing outside: no script, no font."""

from collections.abc import Callable, Sequence

import pygal
from pygal.style import Style

from control_room.experiments.flash_sale.rail import Look, rate

SMOOTHED_SECONDS = 3.0
POINTS = 400
STYLE = Style(
    background="white", plot_background="white", foreground="#333333", foreground_strong="#111111",
    foreground_subtle="#777777", colors=("#2563eb", "#16a34a", "#d97706"), font_family="sans-serif",
)  # fmt: skip


def chart(looks: Sequence[Look]) -> bytes:
    """Accepted and paid orders a second, and the backlog on an axis of its own."""
    drawing = pygal.XY(
        js=[], style=STYLE, show_dots=False, width=1000, height=500, legend_at_bottom=True, include_x_axis=True,
        title="The rail", x_title="seconds", y_title="orders a second",
    )  # fmt: skip
    drawing.add("accepted a second", _points(looks, lambda seen: rate(seen, "accepted", SMOOTHED_SECONDS)))
    drawing.add("paid a second", _points(looks, lambda seen: rate(seen, "paid", SMOOTHED_SECONDS)))
    drawing.add("backlog (right axis)", _points(looks, lambda seen: float(seen[-1].backlog)), secondary=True)
    svg: bytes = drawing.render()
    return svg


def _points(looks: Sequence[Look], value: Callable[[Sequence[Look]], float]) -> list[tuple[float, float]]:
    """As (seconds, value): `value` of the looks until then."""
    step = max(1, len(looks) // POINTS)
    return [(round(looks[end].seconds, 1), value(looks[: end + 1])) for end in range(0, len(looks), step)]

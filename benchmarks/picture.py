"""The results as one SVG: a chart for each rate and each latency, one below the other. Nothing in it is fetched."""

import re

from pygal import Config, HorizontalBar
from pygal.style import CleanStyle

from benchmarks.contenders import CEILINGS, ORDER_RAIL
from benchmarks.databases import TITLES as DATABASE_TITLES
from benchmarks.results import Results
from benchmarks.table import TITLES, number

WIDTH, BAR_HEIGHT, FRAME_HEIGHT = 900, 34, 110
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
OURS, PEER, CEILING = "#0b7a4b", "#9aa5b1", "#d9c27a"
STYLE = CleanStyle(
    font_family="sans-serif", background="white", guide_stroke_color="#dddddd", major_guide_stroke_color="#dddddd"
)
SCRIPT = re.compile(r"<script.*?</script>", re.DOTALL)  # for tooltips, and no use in a picture
CHARTS = (
    ("accept", "rate", "Orders accepted per second, 64 connections"),
    ("drain", "rate", "Orders per second from a backlog to the customer told"),
    ("latency", "p50 at 50/s", "Milliseconds from order to customer told, median at 50 orders/s"),
    ("latency", "p99 at 50/s", "... and the slowest hundredth"),
    ("latency", "p50 at 200/s", "Milliseconds from order to customer told, median at 200 orders/s"),
)


def draw(results: Results) -> str:
    """The picture; empty where none of its charts was measured."""
    charts = [
        _chart(f"{title}, {database_title}", medians)
        for measurement, name, title in CHARTS
        for database, database_title in DATABASE_TITLES.items()
        if (medians := results.medians(measurement, name, database))
    ]
    parts, top = [], 0
    for svg, height in charts:
        parts.append(svg.replace("<svg ", f'<svg x="0" y="{top}" width="{WIDTH}" height="{height}" ', 1))
        top += height
    head = f'<svg {NAMESPACES} viewBox="0 0 {WIDTH} {top}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _chart(title: str, medians: dict[str, float]) -> tuple[str, int]:
    """The chart, and its height."""
    height = FRAME_HEIGHT + BAR_HEIGHT * len(medians)
    chart = HorizontalBar(_config(title, height), style=STYLE)
    bars = [{"value": value, "color": _color(contender)} for contender, value in medians.items()]
    labels = [f"{TITLES.get(contender, contender)}: {number(value)}" for contender, value in medians.items()]
    chart.x_labels = labels[::-1]
    chart.add("", bars[::-1])
    return SCRIPT.sub("", chart.render(is_unicode=True)), height


def _config(title: str, height: int) -> Config:
    return Config(
        title=title, width=WIDTH, height=height, show_legend=False, formatter=number,
        js=[], disable_xml_declaration=True, include_x_axis=True, margin=12,
    )  # fmt: skip


def _color(contender: str) -> str:
    if contender == ORDER_RAIL.name:
        return OURS
    return CEILING if contender in {ceiling.name for ceiling in CEILINGS} else PEER

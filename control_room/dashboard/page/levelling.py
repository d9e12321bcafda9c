"""Load levelling: what comes in, what goes out, and what waits in between, over time on one chart."""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from typing import Any

from nicegui import ui

from control_room.dashboard.page.parts import Page, card, named, number
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.text import duration
from shared.contract import stages

SHOWN_SECONDS = 300
POINTS = 150
LABELS = tuple(stage.label for _, stage in stages())
COLOURS = ("blue", "green", "violet")
"""Of the stages, one after the other, as the style sheet calls them."""
HINT = "What comes in faster than it can be handled waits in a queue; nobody who sent it waits for that."
INK = "getComputedStyle(document.body).getPropertyValue('--{}').trim()"
"""A colour for the chart, evaluated in the browser: style sheets do not apply to a canvas."""
ZONE: Mapping[str, object] = {
    "nameTextStyle": {":color": INK.format("soft")},
    "nameLocation": "start",
    "nameGap": 6,
    ":name": "new Intl.DateTimeFormat(undefined, {timeZoneName: 'short'}).formatToParts()"
    ".find(part => part.type === 'timeZoneName').value",
}
"""The viewer's time zone, evaluated in the browser: the chart's times are in it."""


def show(page: Page) -> None:
    """The chart, and its latest values as text."""
    history = page.room.observer.history
    with card("Load levelling", HINT, "levelling"):
        with ui.element("dl").classes("figures"):
            for label in LABELS:
                page.fact(f"{label}/s", lambda snapshot, label=label: number(snapshot.rates[label]))  # type: ignore[misc]
            page.fact("backlog", lambda snapshot: f"{snapshot.backlog:,}")
            page.fact("time to drain", _time_to_drain)
        chart = named(ui.echart(_options()).classes("chart"), "Chart of the last five minutes", "img")
    page.updates.append(lambda snapshot: _draw(chart, history, snapshot))


def _draw(chart: ui.echart, history: Collection[Snapshot], last: Snapshot) -> None:
    if not history:
        return
    snapshots = [each for each in history if each.at > last.at - SHOWN_SECONDS]
    step = max(1, len(snapshots) // POINTS)
    options = chart.options
    options["dataset"]["source"] = _columns([*snapshots[:-1:step], last])
    options["series"][-1]["data"] = _prediction(last)
    options["xAxis"]["min"] = round((last.at - SHOWN_SECONDS) * 1000)
    rates = ", ".join(f"{last.rates[label]:.0f} {label}" for label in LABELS)
    named(chart, f"Chart of the last five minutes. Now: {rates} a second; backlog {last.backlog}")


def _time_to_drain(snapshot: Snapshot) -> str:
    if snapshot.seconds_left is None:
        return "not draining"
    return f"about {duration(snapshot.seconds_left)}" if snapshot.seconds_left else "nothing waits"


def _columns(snapshots: Sequence[Snapshot]) -> dict[str, list[float]]:
    """Flat lists, since NiceGUI copies the options to find changes, and nested lists are slow to copy."""
    return {
        "at": [round(each.at * 1000) for each in snapshots],
        **{label: [round(each.rates[label], 1) for each in snapshots] for label in LABELS},
        "backlog": [each.backlog for each in snapshots],
    }


def _prediction(last: Snapshot) -> list[list[float]]:
    """A line from now to when the backlog will be gone; empty if that is unknown."""
    if not last.seconds_left:
        return []
    return [[round(last.at * 1000), last.backlog], [round((last.at + last.seconds_left) * 1000), 0]]


def _options() -> dict[str, Any]:
    ink, line, plain = {":color": INK.format("soft")}, {"lineStyle": {":color": INK.format("line")}}, {"show": False}
    labels = {**ink, "hideOverlap": True}
    axis = {"type": "value", "min": 0, "nameTextStyle": ink, "axisLabel": ink}
    return {
        "animation": False,
        "dataset": {"source": _columns([])},
        "aria": {"enabled": False},
        "grid": {"left": 52, "right": 60, "top": 50, "bottom": 26},
        "legend": {"type": "scroll", "top": 0, "left": 0, "itemWidth": 30, "textStyle": ink},
        "tooltip": {"trigger": "axis"},
        "xAxis": {**ZONE, "type": "time", "axisLabel": labels, "axisLine": line, "splitLine": plain},
        "yAxis": [
            {**axis, "name": "per second", "splitLine": line},
            {**axis, "name": "backlog", "splitLine": plain, "minInterval": 1},
        ],
        "series": [
            *(_line(label, colour) for label, colour in zip(LABELS, cycle(COLOURS), strict=False)),
            _line("backlog", "orange", axis=1, areaStyle={"opacity": 0.15}),
            _line("backlog, predicted", "grey", axis=1, dash="dashed", encode={"x": 0, "y": 1}, data=[]),
        ],
    }  # fmt: skip


def _line(name: str, colour: str, *, axis: int = 0, dash: str = "solid", **more: object) -> dict[str, Any]:
    ink = {":color": INK.format(f"chart-{colour}")}
    return {
        "name": name,
        "type": "line",
        "yAxisIndex": axis,
        "showSymbol": False,
        "encode": {"x": "at", "y": name},
        "lineStyle": {"width": 2, "type": dash, **ink},
        "itemStyle": ink,
        **more,
    }

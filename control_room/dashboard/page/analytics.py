"""Analytics: orders, revenue and times per minute, made of the stream of events, which keeps every one for a while."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query
from nicegui import ui

from control_room.analytics.follow import SHOWN_MINUTES, Analytics, View
from control_room.analytics.model import Minute
from control_room.analytics.settings import AnalyticsSettings
from control_room.analytics.store import AnalyticsStore, AnalyticsUnavailable
from control_room.background import running
from control_room.dashboard.page.levelling import INK, ZONE
from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import Page, card, named, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.words import plainly
from control_room.text import counted, duration, money
from shared.http import problems

HINT = (
    "A consumer that came late: everything here is counted from the stream of events, and 'order-rail replay' counts "
    "it again at any time."
)
NOT_KEPT = "No events are kept (EVENTS_KEPT_HOURS is 0), so there is nothing to count."
SHOWN_DISHES = 5
MAX_MINUTES = 7 * 24 * 60
Lines = Sequence[tuple[str, str]]
COUNTS: Lines = (("orders", "blue"), ("confirmed", "green"), ("declines", "red"), ("cancellations", "orange"))
"""Figures per minute that are counts, with their colours."""
TIMES: Lines = (("p50", "blue"), ("p95", "violet"))
REVENUE_COLOURS = ("green", "blue", "violet", "orange", "grey")
"""Of the currencies, one after the other."""


@dataclass(frozen=True)
class Following:
    """`analytics` is None where no events are kept."""

    analytics: Analytics | None


def show(page: Page) -> None:
    """The totals, three charts of the last hour, and the dishes that were ordered most."""
    analytics = page.room.part(Following).analytics
    with card("Analytics", HINT, "analytics"):
        if analytics is None:
            text(NOT_KEPT, "hint", tag="p")
            return
        page.text(lambda _: _state(analytics.view, analytics.trouble), "hint progress")
        with ui.element("dl").classes("figures"):
            page.fact("orders", lambda _: _total(analytics.view, "orders"))
            page.fact("revenue", lambda _: _revenue(analytics.view))
            page.fact("declined", lambda _: _total(analytics.view, "declines"))
            page.fact("cancelled", lambda _: _total(analytics.view, "cancellations"))
            page.fact("refunded", lambda _: _total(analytics.view, "refunds"))
        lines: dict[str, Lines] = {"Orders per minute": COUNTS, "Revenue per minute": (), "Seconds to confirm": TIMES}
        charts = [_chart(title, each) for title, each in lines.items()]
        drawn = View()

        def draw(_snapshot: object) -> None:
            nonlocal drawn
            if analytics.view is not drawn and analytics.view.read_at:
                drawn = analytics.view
                _draw(charts, drawn)

        page.updates.append(draw)
        text("Dishes of the last hour", tag="h3")
        dishes = ui.element("ul").classes("dishes")
        page.redraw(dishes, lambda: tuple(analytics.view.dishes[:SHOWN_DISHES]), lambda: _show_dishes(analytics.view))


def _state(view: View, trouble: str) -> str:
    if trouble:
        return f"These figures are not up to date: {plainly(trouble)}."
    if not view.read_at:
        return "Reading the stream of events …"
    gone = f" {counted(view.missing, 'message')} of the stream were gone before they were read." if view.missing else ""
    return f"{counted(view.events, 'event')} counted.{gone}"


def _total(view: View, name: str) -> str:
    return f"{view.totals.get(name, 0):,}"


def _revenue(view: View) -> str:
    captured, refunded = view.totals.get("captured", {}), view.totals.get("refunded", {})
    amounts = {currency: amount - refunded.get(currency, 0) for currency, amount in captured.items()}
    return ", ".join(money(amount, currency) for currency, amount in sorted(amounts.items())) or "0"


def _show_dishes(view: View) -> None:
    most = max((quantity for _, quantity in view.dishes), default=1)
    for name, quantity in view.dishes[:SHOWN_DISHES]:
        with ui.element("li"):
            text(name, "name")
            text(f"{quantity:,}", "quantity")
            with ui.element("div").classes("bar"):
                ui.element("div").style(f"width: {100 * quantity / most:.0f}%")
    if not view.dishes:
        text("None yet.", "hint", tag="li")


def _chart(title: str, lines: Lines) -> ui.echart:
    text(title, tag="h3")
    return named(ui.echart(_options(lines)).classes("small chart"), title, "img")


def _draw(charts: Sequence[ui.echart], view: View) -> None:
    counts, revenue, times = charts
    minutes = _without_gaps(view.minutes)
    at = [minute * 1000 for minute in minutes]
    counts.options["dataset"]["source"] = {
        "at": at, **{name: [getattr(each, name) if each else 0 for each in minutes.values()] for name, _ in COUNTS}
    }  # fmt: skip
    currencies = sorted({currency for each in view.minutes for currency in each.revenue})
    revenue.options["dataset"]["source"] = {
        "at": at,
        **{name: [each.revenue.get(name, 0) / 100 if each else 0 for each in minutes.values()] for name in currencies},
    }
    revenue.options["series"] = [_line(name, colour) for name, colour in zip(currencies, REVENUE_COLOURS, strict=False)]
    times.options["dataset"]["source"] = {
        "at": at,
        **{name: [_seconds(getattr(each, name)) if each else None for each in minutes.values()] for name, _ in TIMES},
    }
    for chart in charts:
        chart.options["xAxis"]["min"] = round(view.read_at * 1000) - SHOWN_MINUTES * 60_000
    if view.minutes:
        _describe(charts, view.minutes[-1])


def _describe(charts: Sequence[ui.echart], last: Minute) -> None:
    """The latest values in words, for those who do not see the charts."""
    revenue = ", ".join(money(amount, currency) for currency, amount in last.revenue.items()) or "none"
    took = "no order was confirmed" if last.p95 is None else f"95 % within {duration(last.p95 / 1000)}"
    named(charts[0], f"Orders per minute. Latest: {counted(last.orders, 'order')}, {last.confirmed} confirmed")
    named(charts[1], f"Revenue per minute. Latest: {revenue}")
    named(charts[2], f"Time to confirm. Latest: {took}")


def _without_gaps(minutes: Sequence[Minute]) -> dict[int, Minute | None]:
    """By their beginning in seconds since 1970; None for a minute between two others in which nothing happened."""
    by_start = {each.at: each for each in minutes}
    return {at: by_start.get(at) for at in range(min(by_start), max(by_start) + 1, 60)} if by_start else {}


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _options(lines: Lines) -> dict[str, Any]:
    ink, line = {":color": INK.format("soft")}, {"lineStyle": {":color": INK.format("line")}}
    return {
        "animation": False,
        "dataset": {"source": {"at": []}},
        "aria": {"enabled": False},
        "grid": {"left": 64, "right": 20, "top": 34, "bottom": 26},
        "legend": {"type": "scroll", "top": 0, "left": 0, "itemWidth": 24, "textStyle": ink},
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            **ZONE, "nameGap": 22, "type": "time", "axisLabel": {**ink, "hideOverlap": True}, "axisLine": line,
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value", "axisLabel": ink, "splitLine": line, "splitNumber": 4},
        "series": [_line(name, colour) for name, colour in lines],
    }  # fmt: skip


def _line(name: str, colour: str) -> dict[str, Any]:
    ink = {":color": INK.format(f"chart-{colour}")}
    return {
        "name": name,
        "type": "line",
        "symbol": "circle",
        "symbolSize": 4,  # with a symbol also a single minute, or one between two without a value, can be seen
        "encode": {"x": "at", "y": name},
        "lineStyle": {"width": 2, **ink},
        "itemStyle": ink,
    }


@asynccontextmanager
async def _opened(room: Room) -> AsyncIterator[Following]:
    """The analytics follow the stream of events while the block runs, if events are kept."""
    if not room.addresses.events_kept_hours:
        yield Following(None)
        return
    with closing(AnalyticsStore(AnalyticsSettings().url_in(room.journal.parent))) as store:
        analytics = Analytics(room.addresses.rabbitmq_url, store)
        room.on_pruned.append(analytics.forget)
        async with running(analytics.run(), "analytics"):
            yield Following(analytics)


def _serve(app: FastAPI, room: Room) -> None:
    @app.get("/analytics")
    async def figures(minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES)] = SHOWN_MINUTES) -> dict[str, Any]:
        """Figures per minute, and their totals since the beginning."""
        analytics = room.part(Following).analytics
        if analytics is None:
            raise problems.Problem(404, "No events are kept: EVENTS_KEPT_HOURS is 0.")
        try:
            view = await analytics.fresh_view(minutes)
        except AnalyticsUnavailable as error:
            raise problems.Problem.unavailable(str(error)) from None
        return {**view.as_json(), "trouble": analytics.trouble}


PANEL = Panel("analytics", "Analytics", show, opened=_opened, serve=_serve)

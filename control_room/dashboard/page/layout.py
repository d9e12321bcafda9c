"""The whole page: a heading that says whether all is well, and the panels below it."""

import time
from pathlib import Path

from nicegui import ui

from control_room.dashboard.page import audit, dead_letters, levelling, order, process_control, rail, scenarios
from control_room.dashboard.page.parts import Page, text
from control_room.dashboard.snapshots.snapshot import Snapshot

STYLES = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
REFRESH_SECONDS = 1.0
STALE_SECONDS = 4.0
SHOWN_PROBLEMS = 4
HOW_TO_ENTER = (
    "You can look at everything here. To change something, open the link that 'order-rail up' printed, "
    "or enter the operator token:"
)


def build(page: Page, order_id: str = "") -> None:
    """The page for one viewer, kept up to date while it is open; with the history of an order, if one is named."""
    ui.add_css(STYLES)
    ui.query(".nicegui-content").classes("bare")
    _show_heading(page)
    with ui.element("div").classes("room"):
        if not page.may_act:
            _invite()
        for panel in (rail, levelling, process_control, scenarios):
            panel.show(page)
        with ui.element("div").classes("stack"):  # one column of any height
            audit.show(page)
            order.OrderStory(page.room, order_id)
        dead_letters.show(page)
    ui.timer(REFRESH_SECONDS, page.refresh)
    pace = page.room.observer.pace
    page.client.on_connect(lambda: pace.open(page.client.id))
    page.client.on_delete(lambda: pace.close(page.client.id))


def _show_heading(page: Page) -> None:
    """What is broken or degraded, or that nothing is."""

    def problems(snapshot: Snapshot) -> list[str]:
        if time.time() - max(snapshot.at, page.room.observer.pace.opened_at) > STALE_SECONDS:
            return ["the control room itself has stopped looking"]
        return snapshot.problems

    def degraded(snapshot: Snapshot) -> list[str]:
        return [f"degraded: {sentence}" for sentence in snapshot.degraded]

    def colour(snapshot: Snapshot) -> str:
        return "broken" if problems(snapshot) else "busy" if degraded(snapshot) else "fine"

    with ui.element("header").classes("heading"):
        text("Order Rail", tag="h1")
        state = page.text(lambda snapshot: _sentence(problems(snapshot) or degraded(snapshot)), "state", tag="p")
        state.props("role=status")
        page.colour(state, colour)


def _sentence(problems: list[str]) -> str:
    more = f" and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    return "; ".join(problems[:SHOWN_PROBLEMS]) + more if problems else "Everything runs."


def _invite() -> None:
    """How a viewer becomes one who may change something."""
    with ui.element("form").classes("card invitation").props('method=get action="/"'):
        text(HOW_TO_ENTER, tag="label").props("for=token")
        ui.element("input").props("id=token name=token type=password autocomplete=off required")
        with ui.element("button").props("type=submit").classes("button plain"):
            text("Enter", tag="span")

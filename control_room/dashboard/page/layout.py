"""The whole page: a heading that says whether all is well, and the panels below it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nicegui import ui

from control_room.dashboard.page import audit, dead_letters, levelling, order, process_control, rail, scenarios
from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot

STYLES = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
REFRESH_SECONDS = 1.0
STALE_SECONDS = 4.0
SHOWN_PROBLEMS = 4
HOW_TO_ENTER = (
    "You can look at everything here. To change something, open the link that 'order-rail up' printed, "
    "or enter the operator token:"
)


class Panel(Protocol):
    """`show` is called every second with the latest snapshot."""

    def show(self, snapshot: Snapshot) -> None: ...


def build(room: Room, viewer: Viewer, order_id: str = "") -> None:
    """The page for one viewer, kept up to date while it is open; with the history of an order, if one is named."""
    ui.add_css(STYLES)
    ui.query(".nicegui-content").classes("bare")
    summary = _Summary(room)
    with ui.element("div").classes("room"):
        if not viewer.may_act:
            _invite()
        panels: Sequence[Panel] = (
            summary,
            rail.Rail(room),
            levelling.Levelling(room),
            process_control.ProcessControlPanel(room, viewer),
            scenarios.Scenarios(room, viewer),
            *_audit_and_order(room, order_id),
            dead_letters.DeadLetters(room, viewer),
        )

    def refresh() -> None:
        for panel in panels:
            panel.show(room.observer.snapshot)

    ui.timer(REFRESH_SECONDS, refresh)
    client = ui.context.client
    client.on_connect(lambda: room.pace.open(client.id))
    client.on_delete(lambda: room.pace.close(client.id))


def _audit_and_order(room: Room, order_id: str) -> Sequence[Panel]:
    """The audit with the history of an order below it, in one column of any height."""
    with ui.element("div").classes("stack"):
        return audit.Audit(room), order.OrderStory(room, order_id)


class _Summary:
    """The heading: what is broken, or that nothing is."""

    def __init__(self, room: Room) -> None:
        self._room = room
        with ui.element("header").classes("heading"):
            text("Order Rail", tag="h1")
            self._state = text("", "state", tag="p").props("role=status")

    def show(self, snapshot: Snapshot) -> None:
        problems = list(snapshot.problems)
        if time.time() - max(snapshot.at, self._room.pace.opened_at) > STALE_SECONDS:
            problems = ["the control room itself has stopped looking"]
        more = f" and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        self._state.set_text("; ".join(problems[:SHOWN_PROBLEMS]) + more if problems else "Everything runs.")
        swap(self._state, "broken" if problems else "fine")


def _invite() -> None:
    """How a viewer becomes one who may change something."""
    with ui.element("form").classes("card invitation").props('method=get action="/"'):
        text(HOW_TO_ENTER, tag="label").props("for=token")
        ui.element("input").props("id=token name=token type=password autocomplete=off required")
        with ui.element("button").props("type=submit").classes("button plain"):
            text("Enter", tag="span")

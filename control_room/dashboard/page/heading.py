"""The heading that stays in sight: whether all runs, and what the panels have to say."""

import time
from collections.abc import Callable
from functools import partial

from nicegui import ui

from control_room.dashboard.page.panels import CHIPS
from control_room.dashboard.page.parts import STATES, Connection, Page, button, link, named, text
from control_room.dashboard.snapshots.snapshot import LOOKING, Snapshot
from control_room.dashboard.words import stamp
from shared.contract import services

STALE_SECONDS = 4.0
SHOWN_PROBLEMS = 3


def show(page: Page) -> None:
    """A sentence on the system, and a button for each panel that has something to say."""
    with named(ui.element("section").classes("heading"), "At a glance"):
        text("Control room", tag="h1")
        for service in services():
            if service.page is not None:
                link(service.page.title, page.room.page_url(service))
        with ui.element("div").classes("chips"):
            for panel in CHIPS:
                if panel.chip is not None:
                    _show_chip(page, panel.name, partial(panel.chip, page))
        state = page.timed(lambda snapshot: _sentence(page, snapshot), "state", tag="p")
        state.props["role"] = "status"
        page.colour(state, lambda snapshot: _colour(page, snapshot))
        Connection()


def _show_chip(page: Page, panel: str, words: Callable[[Snapshot], tuple[str, str]]) -> None:
    chip = button("", lambda: page.open_panel(panel), kind="chip")

    def update(snapshot: Snapshot) -> None:
        label, state = words(snapshot)
        chip.set_text(label)
        chip.classes(add=state, remove=STATES)

    page.updates.append(update)


def _problems(page: Page, snapshot: Snapshot) -> list[str]:
    if time.time() - max(snapshot.at, page.room.observer.pace.opened_at) > STALE_SECONDS:
        return ["The control room itself has stopped looking: see its log."]
    return snapshot.problems if snapshot.at else [LOOKING]


def _colour(page: Page, snapshot: Snapshot) -> str:
    return "broken" if _problems(page, snapshot) else "busy" if snapshot.degraded else "fine"


def _sentence(page: Page, snapshot: Snapshot) -> str:
    problems = _problems(page, snapshot) or snapshot.degraded or ["Everything runs."]
    more = f" And {len(problems) - SHOWN_PROBLEMS} more." if len(problems) > SHOWN_PROBLEMS else ""
    is_broken = snapshot.broken_since and problems[0] != LOOKING
    since = f" (since {stamp(int(snapshot.broken_since))})" if is_broken else ""
    return " ".join(problems[:SHOWN_PROBLEMS]) + more + since

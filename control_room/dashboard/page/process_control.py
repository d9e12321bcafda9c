"""Process control: kill, pause and slow down each service, and let it go on."""

import time
from collections.abc import Mapping

from nicegui import ui

from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import Page, card, named, text
from control_room.dashboard.process_control import Action, ControlFailed, ProcessControl, ProcessState
from control_room.dashboard.snapshots.snapshot import ServiceView, Snapshot
from control_room.dashboard.words import capital, plainly, title
from control_room.text import duration

HINT = "Stop one while work comes in, and watch the rail: messages wait, nothing is lost, and it goes on by itself."
NO_CONTROL = (
    "Services can't be stopped from here: they don't listen for it. Set CONTROLS_ENABLED=true for them and for the "
    "control room, and start them again."
)
STATE_TEXTS = {
    ProcessState.RUNNING: ("runs freely", "fine"),
    ProcessState.DOWN: ("killed, and kept down", "broken"),
    ProcessState.PAUSED: ("paused", "busy"),
    ProcessState.SLOW: ("slowed down", "busy"),
}
"""The words for a state, and their CSS class."""
JUST_SECONDS = 30.0
"""So long a service is said to have been restarted."""
BUTTONS: tuple[Mapping[ProcessState, Action], ...] = (
    {
        ProcessState.RUNNING: Action.KILL,
        ProcessState.PAUSED: Action.KILL,
        ProcessState.SLOW: Action.KILL,
    },
    {
        ProcessState.RUNNING: Action.KEEP_DOWN,
        ProcessState.PAUSED: Action.KEEP_DOWN,
        ProcessState.SLOW: Action.KEEP_DOWN,
        ProcessState.DOWN: Action.START,
    },
    {
        ProcessState.RUNNING: Action.PAUSE,
        ProcessState.PAUSED: Action.RESUME,
        ProcessState.SLOW: Action.PAUSE,
    },
    {
        ProcessState.RUNNING: Action.SLOW,
        ProcessState.PAUSED: Action.SLOW,
        ProcessState.SLOW: Action.RESUME,
    },
)
"""What each button of a service does in a state; it is not there in the others. Undoing takes the place of doing."""


def restarted(view: ServiceView) -> str:
    """`restarted 2 s ago`; empty if it was not just now."""
    ago = time.time() - view.restarted_at
    return f"restarted {duration(max(1, ago))} ago" if ago < JUST_SECONDS else ""


def show(page: Page) -> None:
    """A row of buttons for each service."""
    with card("Process control", HINT, "process-control"):
        if (control := page.room.control) is None:
            text(NO_CONTROL, "note", tag="p")
            return
        for service in page.room.addresses.services:
            _show_service(page, control, service)
        with ui.element("dl").classes("meanings"):
            for action, meaning in control.actions.items():
                if meaning:
                    text(action.capitalize(), tag="dt")
                    text(meaning, tag="dd")


def _show_service(page: Page, control: ProcessControl, service: str) -> None:
    def words(snapshot: Snapshot) -> str:
        state = control.state(service)
        again = restarted(snapshot.services[service]) if state is ProcessState.RUNNING else ""
        return again or STATE_TEXTS[state][0]

    with named(ui.element("div").classes("process"), f"Process control: {title(service)}", "group"):
        text(title(service), "name")
        page.colour(page.text(words, "state"), lambda _: STATE_TEXTS[control.state(service)][1])
        with ui.element("div").classes("buttons"):
            for actions in BUTTONS:
                if any(action in control.actions for action in actions.values()):
                    _show_button(page, control, service, actions)


def _show_button(page: Page, control: ProcessControl, service: str, actions: Mapping[ProcessState, Action]) -> None:
    shown: Action | None = None  # what its label said when it was pressed

    async def act() -> None:
        if shown is None:
            return
        try:
            await control.apply(shown, service)
        except ControlFailed as error:
            page.report(capital(plainly(str(error))), failed=True)
        if shown in (Action.KILL, Action.KEEP_DOWN, Action.START):
            await page.room.observer.services[service].look()
        page.refresh()

    made = page.button("", act)

    def update(_snapshot: Snapshot) -> None:
        nonlocal shown
        action = actions.get(control.state(service))
        made.set_visibility(action in control.actions)
        if action not in (None, shown):  # what is set again is sent again
            shown = action
            made.set_text(action.capitalize())
            named(made, f"{action.capitalize()}: {title(service).lower()}")
            is_dangerous = action in (Action.KILL, Action.KEEP_DOWN)
            made.classes(add="danger" if is_dangerous else "plain", remove="danger plain")

    page.updates.append(update)


PANEL = Panel("process-control", "Process control", show)

"""Process control: kill, pause and slow down each service, and let it go on."""

from collections.abc import Collection, Mapping

from nicegui import ui

from control_room.dashboard.page.parts import Page, card, named, text, title
from control_room.dashboard.process_control import Action, ControlFailed, ProcessControl, ProcessState

HINT = "Stop one while orders come in, and watch the rail: messages wait, nothing is lost, and it goes on by itself."
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
USELESS: Mapping[ProcessState, Collection[Action]] = {
    ProcessState.RUNNING: (Action.START, Action.RESUME),
    ProcessState.DOWN: set(Action) - {Action.START},
    ProcessState.PAUSED: (Action.START, Action.PAUSE),
    ProcessState.SLOW: (Action.START, Action.SLOW),
}
"""The actions whose buttons are disabled in a state."""


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
    with named(ui.element("div").classes("process"), f"Process control: {title(service)}", "group"):
        text(title(service), "name")
        state = page.text(lambda _: STATE_TEXTS[control.state(service)][0], "state")
        page.colour(state, lambda _: STATE_TEXTS[control.state(service)][1])
        with ui.element("div").classes("buttons"):
            for action in control.actions:
                _show_button(page, control, service, action)


def _show_button(page: Page, control: ProcessControl, service: str, action: Action) -> None:
    async def act() -> None:
        try:
            await control.apply(action, service)
        except ControlFailed as error:
            ui.notify(str(error), type="negative")
        page.refresh()

    label, kind = action.capitalize(), "danger" if action in (Action.KILL, Action.KEEP_DOWN) else "plain"
    name = f"{label}: {title(service).lower()}"
    page.button(label, act, kind=kind, name=name, enabled=lambda: action not in USELESS[control.state(service)])

"""Process control: kill, pause and slow down each service, and let it go on."""

from collections.abc import Collection, Mapping

from nicegui import ui

from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import button, card, named, swap, text, title
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import Action, ControlFailed, ProcessControl, ProcessState
from control_room.dashboard.snapshots.snapshot import Snapshot

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


class ProcessControlPanel:
    """A row of buttons for each service."""

    def __init__(self, room: Room, viewer: Viewer) -> None:
        self._rows: list[_Row] = []
        with card("Process control", HINT, "process-control"):
            if room.control is None:
                text(NO_CONTROL, "note", tag="p")
                return
            self._rows = [_Row(service, room.control, viewer) for service in room.addresses.services]
            with ui.element("dl").classes("meanings"):
                for action, meaning in room.control.actions.items():
                    if meaning:
                        text(action.capitalize(), tag="dt")
                        text(meaning, tag="dd")

    def show(self, _snapshot: Snapshot) -> None:
        for row in self._rows:
            row.show()


class _Row:
    def __init__(self, service: str, control: ProcessControl, viewer: Viewer) -> None:
        self._service, self._control, self._viewer = service, control, viewer
        with named(ui.element("div").classes("process"), f"Process control: {title(service)}", "group"):
            text(title(service), "name")
            self._state = text("", "state")
            with ui.element("div").classes("buttons"):
                self._buttons = {action: self._button(action) for action in control.actions}

    def show(self) -> None:
        state = self._control.state(self._service)
        words, css_class = STATE_TEXTS[state]
        self._state.set_text(words)
        swap(self._state, css_class)
        for action, each in self._buttons.items():
            each.set_enabled(action not in USELESS[state] and self._viewer.may_act)

    def _button(self, action: Action) -> ui.button:
        async def act() -> None:
            try:
                await self._control.apply(action, self._service)
            except ControlFailed as error:
                ui.notify(str(error), type="negative")
            self.show()

        label, kind = action.capitalize(), "danger" if action in (Action.KILL, Action.KEEP_DOWN) else "plain"
        return button(label, act, self._viewer, kind=kind, name=f"{label}: {title(self._service).lower()}")

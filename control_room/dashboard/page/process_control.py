"""Process control: kill, pause and slow down each service, and let it go on."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import NAMES, button, card, named, swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import ControlFailed, ProcessControl, ProcessState
from control_room.dashboard.snapshots import Snapshot

HINT = "Stop one while orders come in, and watch the rail: messages wait, nothing is lost, and it goes on by itself."
NO_CONTROL = (
    "Services can't be stopped from here: they don't listen for it. Set CONTROLS_ENABLED=true for them and for the "
    "control room, and start them again."
)
TOLD = {
    ProcessState.RUNNING: "runs freely",
    ProcessState.DOWN: "killed, and kept down",
    ProcessState.PAUSED: "paused",
    ProcessState.SLOW: "slowed down",
}
STATES = ("fine", "busy", "broken")


class ProcessControlPanel:
    """A row of buttons for each service."""

    def __init__(self, room: Room, viewer: Viewer) -> None:
        self._control, self._viewer = room.control, viewer
        self._rows: dict[str, _Row] = {}
        with card("Process control", HINT, "process-control"):
            if room.control is None:
                text(NO_CONTROL, "note", tag="p")
                return
            for service in room.addresses.services:
                self._rows[service] = _Row(service, room.control, viewer)
            with ui.element("dl").classes("meanings"):
                for action, meaning in room.control.meanings.items():
                    text(action.capitalize(), tag="dt")
                    text(meaning, tag="dd")

    def show(self, _snapshot: Snapshot) -> None:
        for row in self._rows.values():
            row.show()


class _Row:
    def __init__(self, service: str, control: ProcessControl, viewer: Viewer) -> None:
        self._service, self._control, self._viewer = service, control, viewer
        with named(ui.element("div").classes("process"), f"Process control: {NAMES[service]}", "group"):
            text(NAMES[service], "name")
            self._state = text("", "state")
            with ui.element("div").classes("buttons"):
                self._kill = self._button("Kill", lambda: control.kill(service), "danger")
                self._hold = self._button("Kill, keep down", lambda: control.kill(service, hold_down=True), "danger")
                self._start = self._button("Start", lambda: control.start(service))
                self._pause = self._button("Pause", lambda: control.pause(service))
                self._slow = self._button("Slow", lambda: control.slow(service))
                self._resume = self._button("Resume", lambda: control.resume(service))
        self._hold.set_visibility(control.can_hold_down)
        self._start.set_visibility(control.can_hold_down)

    def show(self) -> None:
        state = self._control.state(self._service)
        self._state.set_text(TOLD[state])
        swap(self._state, {ProcessState.RUNNING: "fine", ProcessState.DOWN: "broken"}.get(state, "busy"), STATES)
        is_down = state is ProcessState.DOWN
        is_held = state in (ProcessState.PAUSED, ProcessState.SLOW)
        for each, useful in (
            (self._kill, not is_down),
            (self._hold, not is_down),
            (self._start, is_down),
            (self._pause, not is_down and state is not ProcessState.PAUSED),
            (self._slow, not is_down and state is not ProcessState.SLOW),
            (self._resume, is_held),
        ):
            each.set_enabled(useful and self._viewer.may_act)

    def _button(self, label: str, do: Callable[[], Awaitable[None]], kind: str = "plain") -> ui.button:
        async def act() -> None:
            try:
                await do()
            except ControlFailed as error:
                ui.notify(str(error), type="negative")
            self.show()

        return button(label, act, self._viewer, kind=kind, name=f"{label}: {NAMES[self._service].lower()}")

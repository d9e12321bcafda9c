"""Process control: kill, pause and slow down each service, and let it go on."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import button, card, named, swap, text, title
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import ControlFailed, ProcessControl, ProcessState
from control_room.dashboard.snapshots.snapshot import Snapshot

HINT = "Stop one while orders come in, and watch the rail: messages wait, nothing is lost, and it goes on by itself."
NO_CONTROL = (
    "Services can't be stopped from here: they don't listen for it. Set CONTROLS_ENABLED=true for them and for the "
    "control room, and start them again."
)
RUNNING, DOWN, PAUSED, SLOW = ProcessState
STATE_TEXTS = {
    RUNNING: ("runs freely", "fine"),
    DOWN: ("killed, and kept down", "broken"),
    PAUSED: ("paused", "busy"),
    SLOW: ("slowed down", "busy"),
}
"""The words for a state, and their CSS class."""


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
                for action, meaning in room.control.meanings.items():
                    text(action.capitalize(), tag="dt")
                    text(meaning, tag="dd")

    def show(self, _snapshot: Snapshot) -> None:
        for row in self._rows:
            row.show()


class _Row:
    def __init__(self, service: str, control: ProcessControl, viewer: Viewer) -> None:
        self._service, self._control, self._viewer = service, control, viewer
        self._buttons: list[tuple[ui.button, tuple[ProcessState, ...]]] = []
        with named(ui.element("div").classes("process"), f"Process control: {title(service)}", "group"):
            text(title(service), "name")
            self._state = text("", "state")
            with ui.element("div").classes("buttons"):
                self._add("Kill", lambda: control.kill(service), (RUNNING, PAUSED, SLOW), "danger")
                if control.can_hold_down:
                    hold_down = (RUNNING, PAUSED, SLOW)
                    self._add("Kill, keep down", lambda: control.kill(service, hold_down=True), hold_down, "danger")
                    self._add("Start", lambda: control.start(service), (DOWN,))
                self._add("Pause", lambda: control.pause(service), (RUNNING, SLOW))
                self._add("Slow", lambda: control.slow(service), (RUNNING, PAUSED))
                self._add("Resume", lambda: control.resume(service), (PAUSED, SLOW))

    def show(self) -> None:
        state = self._control.state(self._service)
        words, css_class = STATE_TEXTS[state]
        self._state.set_text(words)
        swap(self._state, css_class)
        for each, useful_in in self._buttons:
            each.set_enabled(state in useful_in and self._viewer.may_act)

    def _add(
        self,
        label: str,
        command: Callable[[], Awaitable[None]],
        useful_in: tuple[ProcessState, ...],
        kind: str = "plain",
    ) -> None:
        """A button that is enabled in these states."""

        async def act() -> None:
            try:
                await command()
            except ControlFailed as error:
                ui.notify(str(error), type="negative")
            self.show()

        name = f"{label}: {title(self._service).lower()}"
        self._buttons.append((button(label, act, self._viewer, kind=kind, name=name), useful_in))

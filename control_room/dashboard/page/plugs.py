"""The plugs: kill, pause and slow each service, and put it right again."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import NAMES, button, card, named, swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.process_control import Plugs, PlugState, PlugStuck
from control_room.dashboard.snapshots import Picture

HINT = "Pull one while orders come in, and watch the rail: messages wait, nothing is lost, and it goes on by itself."
NO_PLUGS = (
    "Services can't be stopped from here: they don't listen for it. Set CONTROLS_ENABLED=true for them and for the "
    "control room, and start them again."
)
TOLD = {
    PlugState.RUNNING: "plugged in",
    PlugState.DOWN: "killed, and kept down",
    PlugState.PAUSED: "paused",
    PlugState.SLOW: "slowed down",
}
STATES = ("fine", "busy", "broken")


class PlugBoard:
    """A row of buttons for each service."""

    def __init__(self, room: Room, viewer: Viewer) -> None:
        self._plugs, self._viewer = room.plugs, viewer
        self._rows: dict[str, _Row] = {}
        with card("Plugs", HINT, "plugs"):
            if room.plugs is None:
                text(NO_PLUGS, "note", tag="p")
                return
            for service in room.addresses.services:
                self._rows[service] = _Row(service, room.plugs, viewer)
            with ui.element("dl").classes("meanings"):
                for action, meaning in room.plugs.meanings.items():
                    text(action.capitalize(), tag="dt")
                    text(meaning, tag="dd")

    def show(self, _picture: Picture) -> None:
        for row in self._rows.values():
            row.show()


class _Row:
    def __init__(self, service: str, plugs: Plugs, viewer: Viewer) -> None:
        self._service, self._plugs, self._viewer = service, plugs, viewer
        with named(ui.element("div").classes("plug"), f"Plug of the {NAMES[service].lower()}", "group"):
            text(NAMES[service], "name")
            self._state = text("", "state")
            with ui.element("div").classes("buttons"):
                self._kill = self._button("Kill", lambda: plugs.kill(service), "danger")
                self._hold = self._button("Kill, keep down", lambda: plugs.kill(service, hold_down=True), "danger")
                self._start = self._button("Start", lambda: plugs.start(service))
                self._pause = self._button("Pause", lambda: plugs.pause(service))
                self._slow = self._button("Slow", lambda: plugs.slow(service))
                self._resume = self._button("Resume", lambda: plugs.resume(service))
        self._hold.set_visibility(plugs.can_hold_down)
        self._start.set_visibility(plugs.can_hold_down)

    def show(self) -> None:
        state = self._plugs.state(self._service)
        self._state.set_text(TOLD[state])
        swap(self._state, {PlugState.RUNNING: "fine", PlugState.DOWN: "broken"}.get(state, "busy"), STATES)
        is_down = state is PlugState.DOWN
        is_held = state in (PlugState.PAUSED, PlugState.SLOW)
        for each, useful in (
            (self._kill, not is_down),
            (self._hold, not is_down),
            (self._start, is_down),
            (self._pause, not is_down and state is not PlugState.PAUSED),
            (self._slow, not is_down and state is not PlugState.SLOW),
            (self._resume, is_held),
        ):
            each.set_enabled(useful and self._viewer.may_act)

    def _button(self, label: str, do: Callable[[], Awaitable[None]], kind: str = "plain") -> ui.button:
        async def act() -> None:
            try:
                await do()
            except PlugStuck as error:
                ui.notify(str(error), type="negative")
            self.show()

        return button(label, act, self._viewer, kind=kind, name=f"{label}: {NAMES[self._service].lower()}")

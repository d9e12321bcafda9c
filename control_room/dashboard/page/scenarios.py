"""The scenarios: a card for each, with a button, what to look for, and the result."""

from nicegui import ui

from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import button, card, named, number_field, swap, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.experiments.scenarios import SCENARIOS, Run, Runner, Scenario
from control_room.text import duration

HINT = "Each plays on the running system, with real orders and real faults, and says what came of it. One at a time."


class Scenarios:
    """All of them."""

    def __init__(self, room: Room, viewer: Viewer) -> None:
        with card("Scenarios", HINT, "scenarios"), ui.element("div").classes("plays"):
            self._cards = [_Card(scenario, room.runner, viewer) for scenario in SCENARIOS]

    def show(self, _snapshot: Snapshot) -> None:
        for each in self._cards:
            each.show()


class _Card:
    def __init__(self, scenario: Scenario, runner: Runner, viewer: Viewer) -> None:
        self._scenario, self._runner, self._viewer = scenario, runner, viewer
        self._impossible = scenario.impossible(runner.target)
        with named(ui.element("div").classes("play"), f"Scenario: {scenario.title}", "group"):
            text(scenario.title, tag="h3")
            text(scenario.look_for, "look", tag="p")
            text(self._impossible, "note", tag="p")
            with ui.element("div").classes("buttons"):
                self._numbers = {each.name: number_field(each.label, each.usual, "field") for each in scenario.settings}
                self._button = button("Play", self._start, viewer, name=f"Play: {scenario.title}")
            self._result = _Result()

    def show(self) -> None:
        is_free = self._runner.current is None and not self._impossible
        self._button.set_enabled(is_free and self._viewer.may_act)
        run = self._runner.runs.get(self._scenario.name)
        if run is not None:
            self._result.show(run)

    async def _start(self) -> None:
        chosen = {name: None if field.value is None else int(field.value) for name, field in self._numbers.items()}
        if wrong := self._scenario.check(chosen):
            ui.notify(wrong, type="negative")
            return
        self._runner.start(self._scenario, {name: value for name, value in chosen.items() if value is not None})
        self.show()


class _Result:
    def __init__(self) -> None:
        with ui.element("div").classes("outcome") as self._box:
            self._verdict = text("", "verdict").props("role=status")
            with ui.element("dl") as self._details:
                text("Expected", tag="dt")
                self._expected = text("", tag="dd")
                text("Seen", tag="dt")
                self._seen = text("", tag="dd")
        self._box.set_visibility(False)

    def show(self, run: Run) -> None:
        self._box.set_visibility(True)
        outcome = run.outcome
        self._details.set_visibility(outcome is not None)
        if outcome is None:
            self._verdict.set_text(f"Playing: {run.now} ...")
            swap(self._box, "busy")
            return
        verdict = "As expected" if outcome.held else "Not as expected"
        self._verdict.set_text(f"{verdict}, after {duration(run.took_seconds)}.")
        self._expected.set_text(outcome.expected)
        self._seen.set_text(outcome.seen)
        swap(self._box, "fine" if outcome.held else "broken")

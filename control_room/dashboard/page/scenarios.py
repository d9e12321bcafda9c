"""The scenarios: a card for each, with a button, what to look for, and the result."""

from collections.abc import Callable

from nicegui import ui

from control_room.dashboard.page.parts import STATES, Page, card, named, number_field, text
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.experiments.scenarios import SCENARIOS, Run, Scenario
from control_room.text import duration

HINT = "Each plays on the running system, with real orders and real faults, and says what came of it. One at a time."


def show(page: Page) -> None:
    """All of them."""
    with card("Scenarios", HINT, "scenarios"), ui.element("div").classes("plays"):
        for scenario in SCENARIOS:
            _show_scenario(page, scenario)


def _show_scenario(page: Page, scenario: Scenario) -> None:
    runner = page.room.runner
    impossible = scenario.impossible(runner.target)

    def start() -> None:
        chosen = {name: None if field.value is None else int(field.value) for name, field in fields.items()}
        if wrong := scenario.check(chosen):
            ui.notify(wrong, type="negative")
            return
        runner.start(scenario, {name: value for name, value in chosen.items() if value is not None})
        page.refresh()

    with named(ui.element("div").classes("play"), f"Scenario: {scenario.title}", "group"):
        text(scenario.title, tag="h3")
        text(scenario.look_for, "look", tag="p")
        text(impossible, "note", tag="p")
        with ui.element("div").classes("buttons"):
            fields = {each.name: number_field(each.label, each.usual, "field") for each in scenario.settings}
            page.button(
                "Play", start, name=f"Play: {scenario.title}",
                enabled=lambda: runner.current is None and not impossible,
            )  # fmt: skip
        _show_result(page, lambda: runner.runs.get(scenario.name))


def _show_result(page: Page, last_run: Callable[[], Run | None]) -> None:
    with ui.element("div").classes("outcome") as box:
        verdict = text("", "verdict").props("role=status")
        with ui.element("dl") as details:
            text("Expected", tag="dt")
            expected = text("", tag="dd")
            text("Seen", tag="dt")
            seen = text("", tag="dd")

    def update(_snapshot: Snapshot) -> None:
        run = last_run()
        box.set_visibility(run is not None)
        details.set_visibility(run is not None and run.outcome is not None)
        if run is None:
            return
        if run.outcome is None:
            words, state = f"Playing: {run.now} ...", "busy"
        else:
            held, state = ("As expected", "fine") if run.outcome.held else ("Not as expected", "broken")
            words = f"{held}, after {duration(run.took_seconds)}."
            expected.set_text(run.outcome.expected)
            seen.set_text(run.outcome.seen)
        verdict.set_text(words)
        box.classes(add=state, remove=STATES)

    page.updates.append(update)

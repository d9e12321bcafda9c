"""The scenarios: a card for each, with a button, what to look for, and the result."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nicegui import ui

from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import STATES, Page, card, named, number_field, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.dashboard.words import capital, plainly
from control_room.experiments.scenarios import SCENARIOS, Run, Runner, Scenario, Target
from control_room.experiments.scenarios.mail_route import LauncherMailRoute
from control_room.operations.roles import NOTIFICATIONS
from control_room.text import duration

HINT = "Each plays on the running system, with real orders and real faults, and says what came of it. One at a time."


def show(page: Page) -> None:
    """All of them."""
    with card("Scenarios", HINT, "scenarios"), ui.element("div").classes("plays"):
        for scenario in SCENARIOS:
            _show_scenario(page, scenario)


def _show_scenario(page: Page, scenario: Scenario) -> None:
    runner = page.room.part(Runner)
    impossible = scenario.impossible(runner.target)

    def start() -> None:
        if wrong := [field for field in fields.values() if not field.validate()]:
            wrong[0].run_method("focus")
            return
        runner.start(scenario, {name: int(field.value or 0) for name, field in fields.items()})
        page.refresh()

    with named(ui.element("div").classes("play"), f"Scenario: {scenario.title}", "group"):
        text(scenario.title, tag="h3")
        text(scenario.look_for, "look", tag="p")
        text(impossible, "note", tag="p")
        with ui.element("div").classes("buttons"):
            fields = {
                each.name: number_field(each.label, each.usual, "field", each.low, each.high)
                for each in scenario.settings
            }
            page.button(
                "Play", start, name=f"Play: {scenario.title}",
                enabled=lambda: runner.current is None and not impossible,
            )  # fmt: skip
        show_result(page, lambda: runner.runs.get(scenario.name))


def show_result(page: Page, last_run: Callable[[], Run | None]) -> None:
    """How far it is, or how it ended; nothing before it was played."""
    with ui.element("div").classes("outcome") as box:
        verdict = text("", "verdict").props("role=status")
        details = ui.element("dl")

    def update(_snapshot: Snapshot) -> None:
        run = last_run()
        box.set_visibility(run is not None)
        if run is not None:
            words, state = _verdict(run)
            verdict.set_text(words)
            box.classes(add=state, remove=STATES)

    def draw() -> None:
        run = last_run()
        if run is not None and run.outcome is not None:
            for name, words in (("Expected", run.outcome.expected), ("Seen", run.outcome.seen)):
                text(name, tag="dt")
                with ui.element("dd"), ui.element("ul"):
                    for each in words.split("; "):
                        text(capital(plainly(each)), tag="li")

    page.updates.append(update)
    page.redraw(details, lambda: (run := last_run()) and run.outcome, draw)


def _verdict(run: Run) -> tuple[str, str]:
    """A sentence on how far it is or how it ended, and its CSS class."""
    if run.outcome is None:
        return f"Playing: {plainly(run.now)} …", "busy"
    held, state = ("As expected", "fine") if run.outcome.held else ("Not as expected", "broken")
    return f"{held}, after {duration(run.took_seconds)}.", state


@asynccontextmanager
async def _opened(room: Room) -> AsyncIterator[Runner]:
    runner = Runner(target_of(room))
    try:
        yield runner
    finally:
        await runner.stop()


def target_of(room: Room) -> Target:
    """The system that the room shows."""
    sends_mail = room.processes.get(NOTIFICATIONS.name)
    mail = LauncherMailRoute(sends_mail) if sends_mail else None
    return Target(room.addresses, room.control, mail, lambda: room.observer.snapshot)


def _in_short(page: Page, _snapshot: Snapshot) -> tuple[str, str]:
    run = page.room.part(Runner).current
    return (f"Playing: {run.played.title}", "busy") if run else ("No scenario", "")


PANEL = Panel("scenarios", "Scenarios", show, chip=_in_short, opened=_opened)

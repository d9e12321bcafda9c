"""The quests: a card for each, with its tasks, buttons that do a part of them, and the audit's judgement."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nicegui import ui

from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import Page, card, named, text
from control_room.dashboard.page.room import Room
from control_room.dashboard.page.scenarios import show_result, target_of
from control_room.dashboard.words import capital, plainly
from control_room.experiments.quests import QUESTS, Help, NoHelp, Quest
from control_room.experiments.scenarios import Runner

HINT = (
    "You against the system. Begin one, do what it asks for (in every panel, and in the shop), and the audit judges. "
    "One at a time."
)


class Questing(Runner):
    """Follows a quest, during which scenarios can be played too."""


def show(page: Page) -> None:
    """All of them."""
    with card("Quests", HINT, "quests"), ui.element("div").classes("plays"):
        for quest in QUESTS:
            _show_quest(page, quest)


def _show_quest(page: Page, quest: Quest) -> None:
    runner = page.room.part(Questing)

    def is_on() -> bool:
        return runner.current is not None and runner.current.played is quest

    def begin() -> None:
        runner.start(quest, {})
        page.refresh()

    async def give_up() -> None:
        if is_on():
            await runner.stop()
            page.refresh()

    with named(ui.element("div").classes("play"), f"Quest: {quest.title}", "group"):
        text(quest.title, tag="h3")
        text(quest.dare, "look", tag="p")
        with ui.element("ol").classes("tasks"):
            for task in quest.tasks:
                text(task.words, tag="li")
        with ui.element("div").classes("buttons"):
            page.button("Begin", begin, name=f"Begin: {quest.title}", enabled=lambda: runner.current is None)
            for each in quest.helps:
                _show_help(page, quest, each, is_on)
            page.button("Give up", give_up, kind="plain", name=f"Give up: {quest.title}", enabled=is_on)
        show_result(page, lambda: runner.runs.get(quest.name))


def _show_help(page: Page, quest: Quest, each: Help, is_on: Callable[[], bool]) -> None:
    async def act() -> None:
        try:
            page.report(await each.give(page.room.addresses))
        except NoHelp as error:
            page.report(capital(plainly(str(error))), failed=True)

    page.button(each.label, act, kind="plain", name=f"{each.label}: {quest.title}", enabled=is_on)


@asynccontextmanager
async def _opened(room: Room) -> AsyncIterator[Questing]:
    questing = Questing(target_of(room))
    try:
        yield questing
    finally:
        await questing.stop()


PANEL = Panel("quests", "Quests", show, opened=_opened)

"""Dead letters by queue and cause: inspect one, redrive them, or discard one with a reason."""

import json
from datetime import datetime
from typing import Literal

from nicegui import ui

from control_room.dashboard.page.access import Viewer
from control_room.dashboard.page.parts import button, card, named, number_field, text, title
from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.discard import NotDiscarded
from control_room.operations.dead_letters.redrive import NoConsumer, RedriveStopped
from control_room.operations.dead_letters.selection import Group, Selection
from control_room.text import counted
from shared.messaging.channel import BrokerUnavailable

HINT = (
    "A message that could not be handled, however often it was tried, is set aside with the reason. Mend the cause, "
    "then send it back; or remove it, and say why."
)
SHOWN_CHARACTERS = 8000
SHOWN_LETTERS = 5
USUAL_RATE, HIGHEST_RATE = 50, 10_000
FAILURES = (NoConsumer, RedriveStopped, NotDiscarded, BrokerUnavailable)


class DeadLetters:
    """The groups, redrawn only when they have changed: a redrawn button loses a click that is on its way."""

    def __init__(self, room: Room, viewer: Viewer) -> None:
        self._dead_letters, self._viewer = room.dead_letters, viewer
        self._drawn: object = None  # what the groups on the page show
        with card("Dead letters", HINT, "dead-letters"):
            self._trouble = text("", "note broken")
            self._groups = ui.element("div").classes("groups")
            self._here = ui.element("div")  # dialogs and notices, which must outlive a redrawing

    def show(self, _snapshot: Snapshot) -> None:
        self._trouble.set_text(self._dead_letters.trouble)
        shown = [_shown(group) for group in self._dead_letters.groups]
        if shown != self._drawn:
            self._drawn = shown
            self._groups.clear()
            with self._groups:
                self._draw()

    def _draw(self) -> None:
        if not self._dead_letters.groups:
            text("There are none.", "note")
        for group in self._dead_letters.groups:
            self._draw_group(group)

    def _draw_group(self, group: Group) -> None:
        cause = group.cause or "no reason given"
        with named(ui.element("div").classes("group"), f"{title(group.queue)}, {cause}", "group"):
            with ui.element("div").classes("what"):
                text(f"{cause}: {counted(group.count, 'message')}", "name", tag="h3")
                text(f"{title(group.queue)}{_since(group.oldest)}", "hint")
            if group.count > 1:
                self._draw_actions(group)
            with ui.element("ul"):
                for letter in group.first[:SHOWN_LETTERS]:
                    self._draw_letter(letter)
                if group.count > SHOWN_LETTERS:
                    text(f"and {group.count - SHOWN_LETTERS:,} more", "hint", tag="li")

    def _draw_actions(self, group: Group) -> None:
        selection = Selection(cause=group.cause, queue=group.queue)
        with ui.element("div").classes("buttons"):
            rate = number_field("a second", USUAL_RATE, "rate", 1, HIGHEST_RATE)

            async def send_back() -> None:
                await self._redrive(selection, rate.value)

            button(f"Send back all {group.count:,}", send_back, self._viewer)

    def _draw_letter(self, letter: DeadLetter) -> None:
        with ui.element("li"):
            with ui.element("div").classes("what"):
                text(letter.error[:200] or letter.reason, "name")
                text(f"order {letter.order_id}" if letter.order_id else f"no order: {letter.id}", "code")
                text(_tried(letter), "hint")
            with ui.element("div").classes("buttons"):

                async def inspect() -> None:
                    with self._here:
                        _inspect(letter)

                async def send_back() -> None:
                    await self._redrive(Selection(id=letter.id, queue=letter.queue), USUAL_RATE)

                async def discard() -> None:
                    with self._here:
                        reason = await _ask_for_reason(letter)
                    if reason:
                        await self._discard(letter, reason)

                button("Inspect", inspect, kind="plain", name=f"Inspect {letter.id}")
                button("Send back", send_back, self._viewer, kind="plain", name=f"Send back {letter.id}")
                button("Discard …", discard, self._viewer, kind="plain", name=f"Discard {letter.id}")

    async def _redrive(self, selection: Selection, rate: float | None) -> None:
        if rate is None or not 1 <= rate <= HIGHEST_RATE:
            self._say(f"How many a second? Between 1 and {HIGHEST_RATE:,}.", "negative")
            return
        try:
            sent = await self._dead_letters.redrive(selection, rate)
        except FAILURES as error:
            self._say(str(error), "negative")
        else:
            self._say(f"Sent back {sent:,}. Watch them on the rail.", "positive")

    async def _discard(self, letter: DeadLetter, reason: str) -> None:
        try:
            removed = await self._dead_letters.discard(Selection(id=letter.id, queue=letter.queue), reason)
        except FAILURES as error:
            self._say(str(error), "negative")
        else:
            self._say(f"Removed {removed}; kept in the journal of discarded dead letters.", "positive")

    def _say(self, sentence: str, kind: Literal["positive", "negative"]) -> None:
        with self._here:
            ui.notify(sentence, type=kind, multi_line=True)


async def _ask_for_reason(letter: DeadLetter) -> str:
    """The reason why it is discarded; empty if the viewer has changed their mind."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        text("Discard this message?", tag="h2")
        text(f"{letter.id}: it is removed for good, and kept in a journal with your reason.", "hint", tag="p")
        reason = ui.input("Reason", validation={"Say why it is right to remove it.": lambda value: bool(value.strip())})
        reason.props("outlined autofocus").classes("wide")

        async def discard() -> None:
            if reason.validate():
                dialog.submit(reason.value.strip())

        async def leave() -> None:
            dialog.submit("")

        with ui.element("div").classes("buttons"):
            button("Keep it", leave, kind="plain")
            button("Discard it", discard, kind="danger")
    answer: str | None = await dialog
    dialog.delete()
    return answer or ""


def _shown(group: Group) -> object:
    """All of a group that the page shows: it is redrawn if that has changed."""
    return group.queue, group.cause, group.count, [(letter.id, letter.parked_at) for letter in group.first]


def _since(oldest: datetime | None) -> str:
    return f", the oldest since {oldest:%H:%M:%S} UTC" if oldest else ""


def _tried(letter: DeadLetter) -> str:
    times = "once" if letter.attempts == 1 else f"{letter.attempts} times"
    sent_back = f", after it was sent back {letter.redrives} times" if letter.redrives else ""
    return f"tried {times}{sent_back}"


def _inspect(letter: DeadLetter) -> None:
    """The whole message in a dialog."""
    with ui.dialog() as dialog, ui.card().classes("dialog inspection"):
        text(letter.reason or "no reason given", tag="h2")
        text(letter.error, "hint", tag="p")
        message = json.dumps(letter.as_json(), indent=2, ensure_ascii=False, default=str)
        text(message[:SHOWN_CHARACTERS], tag="pre").props('tabindex=0 role=region aria-label="The message"')

        async def close() -> None:
            dialog.close()

        button("Close", close, kind="plain")
    dialog.on("hide", dialog.delete)
    dialog.open()

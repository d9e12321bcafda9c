"""Dead letters by queue and cause: inspect one, redrive them, or discard one with a reason."""

import json
from collections.abc import Awaitable, Callable
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
SHOWN_EACH = 5
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
        groups = self._dead_letters.groups
        if (shown := [_shown(group) for group in groups]) != self._drawn:
            self._drawn = shown
            self._groups.clear()
            with self._groups:
                if not groups:
                    text("There are none.", "note")
                for group in groups:
                    self._draw_group(group)

    def _draw_group(self, group: Group) -> None:
        cause = group.cause or "no reason given"
        with named(ui.element("div").classes("group"), f"{title(group.queue)}, {cause}", "group"):
            with ui.element("div").classes("what"):
                since = f", the oldest since {group.oldest:%H:%M:%S} UTC" if group.oldest else ""
                text(f"{cause}: {counted(group.count, 'message')}", "name", tag="h3")
                text(f"{title(group.queue)}{since}", "hint")
            if group.count > 1:
                self._draw_send_back_all(group)
            with ui.element("ul"):
                for dead_letter in group.first[:SHOWN_EACH]:
                    self._draw_dead_letter(dead_letter)
                if group.count > SHOWN_EACH:
                    text(f"and {group.count - SHOWN_EACH:,} more", "hint", tag="li")

    def _draw_send_back_all(self, group: Group) -> None:
        selection = Selection(cause=group.cause, queue=group.queue)
        with ui.element("div").classes("buttons"):
            rate = number_field("a second", USUAL_RATE, "rate", 1, HIGHEST_RATE)
            button(f"Send back all {group.count:,}", lambda: self._redrive(selection, rate.value), self._viewer)

    def _draw_dead_letter(self, dead_letter: DeadLetter) -> None:
        selection = Selection(id=dead_letter.id, queue=dead_letter.queue)
        with ui.element("li"):
            with ui.element("div").classes("what"):
                text(dead_letter.error[:200] or dead_letter.reason, "name")
                order_id = dead_letter.order_id
                text(f"order {order_id}" if order_id else f"no order: {dead_letter.id}", "code")
                text(_tried(dead_letter), "hint")
            with ui.element("div").classes("buttons"):
                for label, act, viewer in (
                    ("Inspect", lambda: self._inspect(dead_letter), None),
                    ("Send back", lambda: self._redrive(selection, USUAL_RATE), self._viewer),
                    ("Discard …", lambda: self._discard(dead_letter.id, selection), self._viewer),
                ):
                    name = f"{label.removesuffix(' …')} {dead_letter.id}"
                    button(label, act, viewer, kind="plain", name=name)

    async def _inspect(self, dead_letter: DeadLetter) -> None:
        with self._here:
            await _show_message(dead_letter)

    async def _redrive(self, selection: Selection, rate: float | None) -> None:
        if rate is None or not 1 <= rate <= HIGHEST_RATE:
            self._notify(f"How many a second? Between 1 and {HIGHEST_RATE:,}.", "negative")
            return
        await self._report(self._dead_letters.redrive(selection, rate), "Sent back {:,}. Watch them on the rail.")

    async def _discard(self, message_id: str, selection: Selection) -> None:
        with self._here:
            reason = await _ask_for_reason(message_id)
        if reason:
            removing = self._dead_letters.discard(selection, reason)
            await self._report(removing, "Removed {}; kept in the journal of discarded dead letters.")

    async def _report(self, action: Awaitable[int], success: str) -> None:
        """Carry the action out, and say how many messages it concerned, or why it failed."""
        try:
            self._notify(success.format(await action), "positive")
        except FAILURES as error:
            self._notify(str(error), "negative")

    def _notify(self, sentence: str, kind: Literal["positive", "negative"]) -> None:
        with self._here:
            ui.notify(sentence, type=kind, multi_line=True)


async def _ask_for_reason(message_id: str) -> str:
    """The reason why it is discarded; empty if the viewer has changed their mind."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        text("Discard this message?", tag="h2")
        text(f"{message_id}: it is removed for good, and kept in a journal with your reason.", "hint", tag="p")
        reason = ui.input("Reason", validation={"Say why it is right to remove it.": lambda value: bool(value.strip())})
        reason.props("outlined autofocus").classes("wide")

        async def discard() -> None:
            if reason.validate():
                dialog.submit(reason.value.strip())

        with ui.element("div").classes("buttons"):
            button("Keep it", _closing(dialog), kind="plain")
            button("Discard it", discard, kind="danger")
    answer: str | None = await dialog
    dialog.delete()
    return answer or ""


async def _show_message(dead_letter: DeadLetter) -> None:
    with ui.dialog() as dialog, ui.card().classes("dialog inspection"):
        text(dead_letter.reason or "no reason given", tag="h2")
        text(dead_letter.error, "hint", tag="p")
        message = json.dumps(dead_letter.as_json(), indent=2, ensure_ascii=False, default=str)
        text(message[:SHOWN_CHARACTERS], tag="pre").props('tabindex=0 role=region aria-label="The message"')
        button("Close", _closing(dialog), kind="plain")
    await dialog
    dialog.delete()


def _closing(dialog: ui.dialog) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        dialog.close()

    return close


def _shown(group: Group) -> object:
    """All of a group that the page shows: it is redrawn if that has changed."""
    return group.queue, group.cause, group.count, [(each.id, each.parked_at) for each in group.first]


def _tried(dead_letter: DeadLetter) -> str:
    times = "once" if dead_letter.attempts == 1 else f"{dead_letter.attempts} times"
    sent_back = f", after it was sent back {dead_letter.redrives} times" if dead_letter.redrives else ""
    return f"tried {times}{sent_back}"

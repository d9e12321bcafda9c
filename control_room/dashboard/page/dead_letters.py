"""Dead letters by queue and cause: inspect one, redrive them, or discard one with a reason."""

import json
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Literal

from nicegui import ui

from control_room.dashboard.page.parts import Page, button, card, named, number_field, text, title
from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.dead_letter import DeadLetter
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


def show(page: Page) -> None:
    """The groups, each with some of its dead letters."""
    view = page.room.dead_letters

    def draw() -> None:
        if not view.groups:
            text("There are none.", "note")
        for group in view.groups:
            _draw_group(page, group)

    with card("Dead letters", HINT, "dead-letters"):
        page.text(lambda _: view.trouble, "note broken")
        page.redraw(ui.element("div").classes("groups"), lambda: [_shown(group) for group in view.groups], draw)


def _draw_group(page: Page, group: Group) -> None:
    cause = group.cause or "no reason given"
    with named(ui.element("div").classes("group"), f"{title(group.queue)}, {cause}", "group"):
        with ui.element("div").classes("what"):
            since = f", the oldest since {group.oldest:%H:%M:%S} UTC" if group.oldest else ""
            text(f"{cause}: {counted(group.count, 'message')}", "name", tag="h3")
            text(f"{title(group.queue)}{since}", "hint")
        if group.count > 1:
            selection = Selection(cause=group.cause, queue=group.queue)
            with ui.element("div").classes("buttons"):
                rate = number_field("a second", USUAL_RATE, "rate", 1, HIGHEST_RATE)
                page.button(f"Send back all {group.count:,}", lambda: _redrive(page, selection, rate.value))
        with ui.element("ul"):
            for dead_letter in group.first[:SHOWN_EACH]:
                _draw_dead_letter(page, dead_letter)
            if group.count > SHOWN_EACH:
                text(f"and {group.count - SHOWN_EACH:,} more", "hint", tag="li")


def _draw_dead_letter(page: Page, dead_letter: DeadLetter) -> None:
    number, order_id = dead_letter.id, dead_letter.order_id
    selection = Selection(id=number, queue=dead_letter.queue)
    with ui.element("li"):
        with ui.element("div").classes("what"):
            text(dead_letter.error[:200] or dead_letter.reason, "name")
            text(f"order {order_id}" if order_id else f"no order: {number}", "code")
            text(_tried(dead_letter), "hint")
        with ui.element("div").classes("buttons"):
            button("Inspect", lambda: _inspect(page, dead_letter), kind="plain", name=f"Inspect {number}")
            send_back, discard = lambda: _redrive(page, selection, USUAL_RATE), lambda: _discard(page, selection)
            page.button("Send back", send_back, kind="plain", name=f"Send back {number}")
            page.button("Discard …", discard, kind="plain", name=f"Discard {number}")


async def _redrive(page: Page, selection: Selection, rate: float | None) -> None:
    if rate is None or not 1 <= rate <= HIGHEST_RATE:
        _notify(page, f"How many a second? Between 1 and {HIGHEST_RATE:,}.", "negative")
    else:
        await _report(page, page.room.dead_letters.redrive(selection, rate), "Sent back {:,}. Watch them on the rail.")


async def _discard(page: Page, selection: Selection) -> None:
    hint = f"{selection.id}: it is removed for good, and kept in a journal with your reason."
    if reason := await _ask_for_reason(page, hint):
        removing = page.room.dead_letters.discard(selection, reason)
        await _report(page, removing, "Removed {}; kept in the journal of discarded dead letters.")


async def _report(page: Page, action: Awaitable[int], success: str) -> None:
    """Carry the action out, and say how many messages it concerned, or why it failed."""
    try:
        _notify(page, success.format(await action), "positive")
    except (NotDone, BrokerUnavailable) as error:
        _notify(page, str(error), "negative")


def _notify(page: Page, sentence: str, kind: Literal["positive", "negative"]) -> None:
    with page.client:
        ui.notify(sentence, type=kind, multi_line=True)


@contextmanager
def _dialog(page: Page, heading: str, hint: str) -> Iterator[ui.dialog]:
    """A dialog of the page itself: the row whose button opens it may be redrawn meanwhile."""
    with page.client, ui.dialog() as dialog, ui.card().classes("dialog"):
        text(heading, tag="h2")
        text(hint, "hint", tag="p")
        yield dialog


async def _ask_for_reason(page: Page, hint: str) -> str | None:
    """The reason why it is discarded; None if the viewer has changed their mind."""

    def discard() -> None:
        if reason.validate():
            dialog.submit(reason.value.strip())

    with _dialog(page, "Discard this message?", hint) as dialog:
        reason = ui.input("Reason", validation={"Say why it is right to remove it.": lambda value: bool(value.strip())})
        reason.props("outlined autofocus").classes("wide")
        with ui.element("div").classes("buttons"):
            button("Keep it", dialog.close, kind="plain")
            button("Discard it", discard, kind="danger")
    answer: str | None = await dialog
    dialog.delete()
    return answer


async def _inspect(page: Page, dead_letter: DeadLetter) -> None:
    with _dialog(page, dead_letter.reason or "no reason given", dead_letter.error) as dialog:
        message = json.dumps(dead_letter.as_json(), indent=2, ensure_ascii=False, default=str)
        text(message[:SHOWN_CHARACTERS], tag="pre").props('tabindex=0 role=region aria-label="The message"')
        button("Close", dialog.close, kind="plain")
    await dialog
    dialog.delete()


def _shown(group: Group) -> object:
    """All of a group that the page shows: it is redrawn if that has changed."""
    return group.queue, group.cause, group.count, [(each.id, each.parked_at) for each in group.first]


def _tried(dead_letter: DeadLetter) -> str:
    times = "once" if dead_letter.attempts == 1 else f"{dead_letter.attempts} times"
    sent_back = f", after it was sent back {dead_letter.redrives} times" if dead_letter.redrives else ""
    return f"tried {times}{sent_back}"

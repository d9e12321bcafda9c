"""Dead letters by queue and cause: inspect one, redrive them, or discard one with a reason."""

import json
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress

from nicegui import ui

from control_room.dashboard.page.panel import Panel
from control_room.dashboard.page.parts import LocalTimes, Page, button, card, named, number_field, text
from control_room.dashboard.snapshots.snapshot import BROKER_DOWN, Snapshot
from control_room.dashboard.words import capital, plainly, stamp, title, without_class
from control_room.operations.dead_letters import NotDone
from control_room.operations.dead_letters.dead_letter import DeadLetter
from control_room.operations.dead_letters.selection import Group, Selection
from control_room.text import counted
from shared.events.envelope import SUBJECT
from shared.messaging.channel import BrokerUnavailable

HINT = (
    "A message that could not be handled, however often it was tried, is set aside with the reason. Mend the cause, "
    "then send it back; or remove it, and say why."
)
SHOWN_CHARACTERS = 8000
SHOWN_EACH = 5
USUAL_RATE, HIGHEST_RATE = 50, 10_000
FOCUS = """{{
    const opener = [...document.querySelectorAll("button")].find(button => button.ariaLabel === {name});
    (opener ?? document.getElementById("dead-letters"))?.focus(); // the viewer may be at another panel by now
}}"""


def show(page: Page) -> None:
    """The groups, each with some of its dead letters."""
    view = page.room.dead_letters

    def draw() -> None:
        if not view.groups:
            text("There are none.", "note")
        for group in view.groups:
            _draw_group(page, group)

    def trouble(snapshot: Snapshot) -> str:
        if snapshot.broker_problem == BROKER_DOWN:
            return "RabbitMQ is down: they are safe there, and listed again once it is back."
        return f"They can't be listed: {plainly(view.trouble)}." if view.trouble else ""

    with card("Dead letters", HINT, "dead-letters"):
        page.text(trouble, "note broken")
        groups = ui.element("div").classes("groups")
        page.redraw(groups, lambda: [_shown(page, group) for group in view.groups], draw)


def _draw_group(page: Page, group: Group) -> None:
    cause = group.cause or "no reason given"
    with named(ui.element("div").classes("group"), f"{title(group.queue)}, {cause}", "group"):
        with ui.element("div").classes("what"):
            text(f"{_cause(group)}: {counted(group.count, 'message')}", "name", tag="h3")
            since = f", the oldest since {stamp(group.oldest)}" if group.oldest else ""
            LocalTimes(f"{title(group.queue)}{since}", "hint")
        if group.count > 1:
            selection = Selection(cause=group.cause, queue=group.queue)
            with ui.element("div").classes("buttons"):
                rate = number_field("a second", USUAL_RATE, "rate", 1, HIGHEST_RATE)
                label = f"Send back all {group.count:,}"
                page.button(label, lambda: _redrive(page, selection, rate.value) if rate.validate() else None)
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
            text(capital(without_class(dead_letter.error))[:200] or dead_letter.reason, "name")
            if page.may_act:  # to know the id may be a user's right to its page
                text(f"{SUBJECT} {order_id}" if order_id else f"no {SUBJECT}: {number}", "code")
            text(_tried(dead_letter), "hint")
            if moot := page.room.dead_letters.why_moot(dead_letter):
                text(f"{capital(moot)}.", "hint moot")
        with ui.element("div").classes("buttons"):
            inspect, send_back, discard = f"Inspect {number}", f"Send back {number}", f"Discard {number}"
            page.button("Inspect", lambda: _inspect(page, dead_letter, inspect), kind="plain", name=inspect)
            page.button(
                "Send back", lambda: _redrive(page, selection, USUAL_RATE, send_back), kind="plain", name=send_back
            )
            page.button("Discard …", lambda: _discard(page, selection, discard), kind="plain", name=discard)


async def _redrive(page: Page, selection: Selection, rate: float, opener: str = "") -> None:
    await _report(page, page.room.dead_letters.redrive(selection, rate), "Sent back {:,}. Watch them on the rail.")
    _focus(page, opener)


async def _discard(page: Page, selection: Selection, opener: str) -> None:
    hint = f"{selection.id}: it is removed for good, and kept in a journal with your reason."
    if reason := await _ask_for_reason(page, hint):
        removing = page.room.dead_letters.discard(selection, reason)
        await _report(page, removing, "Removed {}; kept in the journal of discarded dead letters.")
    _focus(page, opener)


async def _report(page: Page, action: Awaitable[int], success: str) -> None:
    """Carry the action out, and say how many messages it concerned, or why it failed."""
    try:
        page.report(success.format(await action))
    except (NotDone, BrokerUnavailable) as error:
        page.report(_failure(str(error)), failed=True)


def _failure(sentence: str) -> str:
    """What went wrong, without what concerns only the command line."""
    return capital(plainly(re.sub(r", or use --.*", ".", sentence)))


def _focus(page: Page, opener: str) -> None:
    """Put the keyboard's focus back where it was; on the panel, if the button is gone."""
    if not page.client.is_deleted:
        page.client.run_javascript(FOCUS.format(name=json.dumps(opener)))


@contextmanager
def _dialog(page: Page, heading: str, hint: str) -> Iterator[ui.dialog]:
    """A dialog of the page itself: the row whose button opens it may be redrawn meanwhile."""
    with page.client, ui.dialog() as dialog, ui.card().classes("dialog"):
        named(dialog, heading)
        text(heading, tag="h2")
        text(hint, "hint", tag="p")
        yield dialog


async def _answer(dialog: ui.dialog) -> str | None:
    """What is submitted; None if the dialog is closed, or the whole page, which deletes it as well."""
    answer: str | None = await dialog
    if not dialog.is_deleted:
        dialog.delete()
    return answer


async def _ask_for_reason(page: Page, hint: str) -> str | None:
    """The reason why it is discarded; None if the viewer has changed their mind."""

    def discard() -> None:
        if reason.validate():
            dialog.submit(reason.value.strip())

    with _dialog(page, "Discard this message?", hint) as dialog:
        reason = ui.input("Reason", validation={"Say why it is right to remove it.": lambda value: bool(value.strip())})
        reason.props("outlined autofocus").classes("wide").on("keydown.enter", discard)
        with ui.element("div").classes("buttons"):
            button("Keep it", dialog.close, kind="plain")
            button("Discard it", discard, kind="danger")
    return await _answer(dialog)


async def _inspect(page: Page, dead_letter: DeadLetter, opener: str) -> None:
    with _dialog(
        page, f"Dead letter: {dead_letter.reason or 'no reason given'}", capital(without_class(dead_letter.error))
    ) as dialog:
        message = json.dumps(_readable(dead_letter), indent=2, ensure_ascii=False, default=str)
        text(message[:SHOWN_CHARACTERS], tag="pre").props('tabindex=0 role=region aria-label="The message"')
        button("Close", dialog.close, kind="plain").props("autofocus")
    await _answer(dialog)
    _focus(page, opener)


def _readable(dead_letter: DeadLetter) -> dict[str, object]:
    """All that is known about it, with its body as JSON if it is that."""
    shown = dead_letter.as_json()
    with suppress(KeyError, ValueError, RecursionError):
        shown["message"]["body"] = json.loads(shown["message"]["body"])
    return shown


def _shown(page: Page, group: Group) -> object:
    """All of a group that the page shows: it is redrawn if that has changed."""
    first = [(each.id, each.parked_at, page.room.dead_letters.why_moot(each)) for each in group.first]
    return group.queue, group.cause, group.count, first


def _cause(group: Group) -> str:
    """`Failed 4 times (attempts-exhausted)`."""
    if group.cause == "attempts-exhausted":
        return f"Failed {_times(group.most_attempts)} ({group.cause})"
    return capital(group.cause or "no reason given")


def _tried(dead_letter: DeadLetter) -> str:
    sent_back = f", after it was sent back {_times(dead_letter.redrives)}" if dead_letter.redrives else ""
    return f"tried {_times(dead_letter.attempts)}{sent_back}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _in_short(page: Page, snapshot: Snapshot) -> tuple[str, str]:
    count = snapshot.dead_letters
    if count and count == page.room.dead_letters.moot:  # nobody has to decide about them
        return counted(count, "moot dead letter"), ""
    return (counted(count, "dead letter"), "broken") if count else ("No dead letters", "")


PANEL = Panel("dead-letters", "Dead letters", show, chip=_in_short)

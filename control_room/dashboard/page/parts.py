"""What panels are made of: texts, cards, buttons and fields, and the page that keeps them up to date."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot

Kind = TypeVar("Kind", bound=ui.element)

STATES = "fine busy broken"
"""CSS classes for what works, what works slowly and what does not."""


class LocalTimes(ui.element, component="local_time.js"):
    """A text whose RFC 3339 times each viewer reads in their own time zone; the server does not know that zone.

    `label` is shown in place of each time, which is then only in its tooltip.
    """

    def __init__(self, content: str, classes: str = "", tag: str = "div", label: str | None = None) -> None:
        super().__init__()
        self.props.update({"words": content, "tag": tag} | ({"label": label} if label else {}))
        self.classes(classes)

    def set_text(self, content: str) -> None:
        if content != self.props["words"]:
            self.props["words"] = content


class Connection(ui.element, component="connection.js"):
    """Says when the page has lost its connection, and takes its buttons out of use until it is back."""


class KeepFocus(ui.element, component="focus.js"):
    """A button that is drawn anew keeps the focus."""


class Page:
    """One open page, and whether its viewer may change something. It shows the latest snapshot, every second anew."""

    def __init__(self, room: Room, may_act: bool, asked: Mapping[str, str]) -> None:
        self.room, self.may_act, self.client = room, may_act, ui.context.client
        self.asked = asked
        """The parameters of the address."""
        self.updates: list[Callable[[Snapshot], object]] = []
        self.open_panel: Callable[[str], None] = lambda _name: None
        """Shows the panel of this name; set once the panels are there."""

    def refresh(self) -> None:
        for update in self.updates:
            update(self.room.observer.snapshot)

    def text(self, words: Callable[[Snapshot], str], classes: str = "", tag: str = "div") -> TextElement:
        """A text that follows the snapshot; only changes are sent to the browser."""
        element = text("", classes, tag)
        self.updates.append(lambda snapshot: element.set_text(words(snapshot)))
        return element

    def timed(self, words: Callable[[Snapshot], str], classes: str = "", tag: str = "div") -> LocalTimes:
        """A text with times in it that follows the snapshot."""
        element = LocalTimes("", classes, tag)
        self.updates.append(lambda snapshot: element.set_text(words(snapshot)))
        return element

    def fact(self, name: str, words: Callable[[Snapshot], str]) -> TextElement:
        """A name in a `dl` with its value, which is returned."""
        with ui.element("div"):
            text(name, tag="dt")
            return self.text(words, tag="dd")

    def colour(self, element: ui.element, state: Callable[[Snapshot], str]) -> None:
        """Give the element one of `STATES`, or none, as its CSS class."""
        self.updates.append(lambda snapshot: element.classes(add=state(snapshot), remove=STATES))

    def redraw(self, element: ui.element, content: Callable[[], object], draw: Callable[[], None]) -> None:
        """Draw what is inside only when `content` has changed: a redrawn button loses a click that is on its way."""
        drawn: object = self  # equal to no content

        def update(_snapshot: Snapshot) -> None:
            nonlocal drawn
            if (now := content()) != drawn:
                drawn = now
                element.clear()
                with element:
                    draw()

        self.updates.append(update)

    def report(self, sentence: str, *, failed: bool = False) -> None:
        """Say it at the window's edge: a success for some seconds, a failure until its reader closes it."""
        with self.client:
            if failed:
                close = {"label": "Close", "color": "white"}  # `close_button` would be blue on red
                ui.notify(sentence, type="negative", multi_line=True, timeout=0, actions=[close])
            else:
                ui.notify(sentence, type="positive", multi_line=True)

    def button(
        self,
        label: str,
        act: Callable[[], object],
        *,
        kind: str = "",
        name: str = "",
        enabled: Callable[[], bool] | None = None,
    ) -> ui.button:
        """A button for viewers who may act. For others it is disabled, and NiceGUI drops the clicks that they forge."""
        made = button(label, act, kind=kind, name=name)
        made.set_enabled(self.may_act)
        if enabled is not None:
            self.updates.append(lambda _: made.set_enabled(self.may_act and enabled()))
        return made


def named(element: Kind, name: str, role: str = "") -> Kind:
    """Give it a name for screen readers, and a role.

    Sets them directly, since `props("...")` parses its argument: a name may contain text of a stranger, and what
    follows a quotation mark in it would become attributes.
    """
    element.props["aria-label"] = name
    if role:
        element.props["role"] = role
    return element


def text(content: str, classes: str = "", tag: str = "div") -> TextElement:
    """A text that stays."""
    return TextElement(tag=tag, text=content).classes(classes)


def link(content: str, url: str) -> TextElement:
    """A link to another page, which does not learn where its visitors come from: an address may hold an id."""
    made = text(content, "elsewhere", tag="a")
    made.props.update({"href": url, "rel": "noreferrer"})
    return made


@contextmanager
def card(heading: str, hint: str, anchor: str) -> Iterator[None]:
    """A panel with a heading and a sentence that explains it."""
    with ui.element("section").classes(f"card {anchor}") as section:
        section.props.update({"id": anchor, "aria-labelledby": f"{anchor}-title", "tabindex": -1})
        text(heading, tag="h2").props["id"] = f"{anchor}-title"
        text(hint, "hint", tag="p")
        yield


def button(label: str, act: Callable[[], object], *, kind: str = "", name: str = "") -> ui.button:
    """A button for every viewer. `name` is for screen readers."""
    made = ui.button(label, on_click=act, color=None).props("no-caps unelevated").classes(f"button {kind}")
    return named(made, name) if name else made


def number_field(label: str, value: int, classes: str, low: int, high: int) -> ui.number:
    """A field for a whole number from `low` to `high`. It says so, and what is wrong with another one."""

    def wrong(given: float | None) -> str | None:
        fits = given is not None and low <= given <= high and given == int(given)
        return None if fits else f"Expected a number from {low:,} to {high:,}."

    field = ui.number(f"{label}, {low:,} to {high:,}", value=value, validation=wrong)
    return field.props("dense outlined hide-bottom-space").classes(f"number {classes}")


def number(value: float) -> str:
    """For people: `0`, `7.5`, `167`, `12,345`."""
    return f"{value:.1f}" if 0.05 <= value < 9.95 else f"{value:,.0f}"

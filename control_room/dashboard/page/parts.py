"""What panels are made of: texts, cards, buttons and fields, and the page that keeps them up to date."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from control_room.dashboard.page.room import Room
from control_room.dashboard.snapshots.snapshot import Snapshot
from shared import contract

Kind = TypeVar("Kind", bound=ui.element)

STATES = "fine busy broken"
"""CSS classes for what works, what works slowly and what does not."""


class Page:
    """One open page, and whether its viewer may change something. It shows the latest snapshot, every second anew."""

    def __init__(self, room: Room, may_act: bool) -> None:
        self.room, self.may_act, self.client = room, may_act, ui.context.client
        self.updates: list[Callable[[Snapshot], object]] = []

    def refresh(self) -> None:
        for update in self.updates:
            update(self.room.observer.snapshot)

    def text(self, words: Callable[[Snapshot], str], classes: str = "", tag: str = "div") -> TextElement:
        """A text that follows the snapshot; only changes are sent to the browser."""
        element = text("", classes, tag)
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

    def button(
        self,
        label: str,
        act: Callable[[], object],
        *,
        kind: str = "",
        name: str = "",
        enabled: Callable[[], bool] | None = None,
    ) -> None:
        """A button for viewers who may act. For others it is disabled, and NiceGUI drops the clicks that they forge."""
        made = button(label, act, kind=kind, name=name)
        made.set_enabled(self.may_act)
        if enabled is not None:
            self.updates.append(lambda _: made.set_enabled(self.may_act and enabled()))


@cache
def title(name: str) -> str:
    """What people call the service or queue of this name."""
    titles = {service.name: service.title for service in contract.services()}
    titles |= {queue_name: queue.title for queue_name, queue in contract.queues().items()}
    return titles.get(name, name.capitalize())


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


@contextmanager
def card(heading: str, hint: str, anchor: str) -> Iterator[None]:
    """A panel with a heading and a sentence that explains it."""
    with ui.element("section").classes(f"card {anchor}") as section:
        section.props.update({"id": anchor, "aria-labelledby": f"{anchor}-title"})
        text(heading, tag="h2").props["id"] = f"{anchor}-title"
        text(hint, "hint", tag="p")
        yield


def button(label: str, act: Callable[[], object], *, kind: str = "", name: str = "") -> ui.button:
    """A button for every viewer. `name` is for screen readers."""
    made = ui.button(label, on_click=act, color=None).props("no-caps unelevated").classes(f"button {kind}")
    return named(made, name) if name else made


def number_field(label: str, value: int, classes: str, low: int | None = None, high: int | None = None) -> ui.number:
    """A field for a whole number, from `low` to `high`."""
    field = ui.number(label, value=value, precision=0, min=low, max=high)
    return field.props("dense outlined hide-bottom-space").classes(classes)


def number(value: float) -> str:
    """For people: `0`, `7.5`, `167`, `12,345`."""
    return f"{value:.1f}" if 0.05 <= value < 9.95 else f"{value:,.0f}"

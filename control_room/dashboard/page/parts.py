"""The elements that panels are made of: texts, cards, buttons, fields, and numbers as people read them."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from control_room.dashboard.page.access import Viewer
from shared import contract

Kind = TypeVar("Kind", bound=ui.element)

STATES = ("fine", "busy", "broken")
"""CSS classes for what works, what works slowly and what does not."""


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


def text(content: str = "", classes: str = "", tag: str = "div") -> TextElement:
    """A text that can be changed later; only changes are sent to the browser."""
    element = TextElement(tag=tag, text=content)
    element.classes(classes)
    return element


def fact(name: str) -> TextElement:
    """A name in a `dl` with its value, which is returned."""
    with ui.element("div"):
        text(name, tag="dt")
        return text("", tag="dd")


@contextmanager
def card(heading: str, hint: str, anchor: str) -> Iterator[None]:
    """A panel with a heading and a sentence that explains it."""
    with ui.element("section").classes(f"card {anchor}") as section:
        section.props.update({"id": anchor, "aria-labelledby": f"{anchor}-title"})
        text(heading, tag="h2").props["id"] = f"{anchor}-title"
        text(hint, "hint", tag="p")
        yield


def button(
    label: str,
    act: Callable[[], Awaitable[None]],
    viewer: Viewer | None = None,
    *,
    kind: str = "",
    name: str = "",
) -> ui.button:
    """A button. With a viewer it is enabled only if the viewer may act. `name` is for screen readers."""
    made = ui.button(label, on_click=viewer.acting(act) if viewer else act, color=None)
    made.props("no-caps unelevated").classes(f"button {kind}")
    if name:
        named(made, name)
    if viewer is not None and not viewer.may_act:
        made.disable()
    return made


def number_field(label: str, value: int, classes: str, low: int | None = None, high: int | None = None) -> ui.number:
    """A field for a whole number, from `low` to `high`."""
    field = ui.number(label, value=value, precision=0, min=low, max=high)
    return field.props("dense outlined hide-bottom-space").classes(classes)


def swap(element: ui.element, state: str, states: tuple[str, ...] = STATES) -> None:
    """Give the element the class `state`, and remove those of the other states."""
    element.classes(add=state, remove=" ".join(other for other in states if other != state))


def number(value: float) -> str:
    """For people: `0`, `7.5`, `167`, `12,345`."""
    return f"{value:.1f}" if 0.05 <= value < 9.95 else f"{value:,.0f}"

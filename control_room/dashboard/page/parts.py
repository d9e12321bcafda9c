"""The small parts that panels are made of: texts, cards, buttons, and numbers as people read them."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from control_room.dashboard.page.access import Viewer

Kind = TypeVar("Kind", bound=ui.element)

NAMES = {
    "order_service": "Order service",
    "payment_service": "Payment service",
    "notification_service": "Notification service",
    "payment_service.charge": "To be charged",
    "notification_service.email": "Emails to customers",
    "notification_service.sms": "Text messages",
    "notification_service.restaurant": "Kitchen tickets",
    "order_service.track": "News for the order service",
}
"""What services and queues are called by those who don't know them by their names."""


def named(element: Kind, name: str, role: str = "") -> Kind:
    """Give it a name for screen readers, and a role.

    Not through `props("...")`, which parses what it is given: in a name there may be the words of a stranger, and what
    follows a quotation mark in them would become attributes.
    """
    element.props["aria-label"] = name
    if role:
        element.props["role"] = role
    return element


def text(content: str = "", classes: str = "", tag: str = "div") -> TextElement:
    """A text that can be changed later: only a change is sent."""
    element = TextElement(tag=tag, text=content)
    element.classes(classes)
    return element


@contextmanager
def card(title: str, hint: str, anchor: str) -> Iterator[None]:
    """A panel with its heading, and what there is to see in a sentence."""
    with ui.element("section").classes(f"card {anchor}") as section:
        section.props.update({"id": anchor, "aria-labelledby": f"{anchor}-title"})
        text(title, tag="h2").props["id"] = f"{anchor}-title"
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
    """A button. With a viewer it changes something: those who may not can't press it. `name` is for screen readers."""
    made = ui.button(label, on_click=viewer.acting(act) if viewer else act, color=None)
    made.props("no-caps unelevated").classes(f"button {kind}")
    if name:
        named(made, name)
    if viewer is not None and not viewer.may_act:
        made.disable()
    return made


def swap(element: ui.element, state: str, states: tuple[str, ...]) -> None:
    """Give the element the class of a state, and take those of the others."""
    others = " ".join(each for each in states if each != state)
    element.classes(add=state, remove=others)


def number(value: float) -> str:
    """For people: `0`, `7.5`, `167`, `12,345`."""
    return f"{value:.1f}" if 0.05 <= value < 9.95 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """For people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

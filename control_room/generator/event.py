"""A new event of a service that publishes: the classes of a living example, renamed, and all lines that name them."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import shared.events
from control_room.generator.checkout import EXAMPLES, Refused
from shared.contract import ServiceContract, patterns
from shared.events import Event, event_classes
from shared.events.envelope import TYPE_NAME

EXAMPLE = f"{EXAMPLES}/services/herald_service/events.py"
WORDS = "herald.announced.v1", "HeraldAnnounced", "herald service"
"""Of the example: its type, its class, and its service as it is spoken of."""

LANGUAGE = "shared/events/__init__.py"
"""It exports the events of the services that were not generated."""


@dataclass(frozen=True)
class NewEvent:
    """What is asked for."""

    type: str
    publisher: ServiceContract

    @property
    def name(self) -> str:
        return class_name(self.type)

    @property
    def module(self) -> str:
        """That of the publisher's other events."""
        return self.publisher.publishes[-1].__module__

    @property
    def file(self) -> str:
        return f"{self.module.replace('.', '/')}.py"

    @property
    def contract(self) -> str:
        return f"{self.publisher.name}/contract.py"


def checked(event_type: str, publisher: str, registered: Iterable[ServiceContract]) -> NewEvent:
    """The event that these make. Raises `Refused` with what is wrong, and what is expected."""
    check_type(event_type, "payment.disputed.v1")
    publishing = {contract.name: contract for contract in registered if contract.publishes}
    known = publishing.get(publisher) or publishing.get(f"{publisher}_service")
    if known is None:
        expected = f"expected one of {', '.join(sorted(publishing))}"
        raise Refused(f"no service {publisher!r} that publishes anything is registered; {expected}")
    return NewEvent(event_type, known)


def check_type(event_type: str, such_as: str) -> None:
    """Raises `Refused` for what is no type of an event, or of one that exists."""
    if not TYPE_NAME.fullmatch(event_type):
        raise Refused(f"{event_type!r} is no type of an event; expected such as {such_as}")
    if event_type in event_classes():
        raise Refused(f"the event {event_type} exists already; choose another name")
    taken = {*vars(shared.events), *(each.__name__ for each in event_classes().values())}
    if found := {class_name(event_type), f"{class_name(event_type)}Data"} & taken:
        raise Refused(f"there is a class {found.pop()} already; choose another name than {event_type}")


def class_name(event_type: str) -> str:
    """`loyalty.earned.v1` is `LoyaltyEarned`, and its second version `LoyaltyEarnedV2`."""
    words = re.split(r"[._]", event_type)
    return "".join(word.capitalize() for word in words[:-1]) + ("" if words[-1] == "v1" else words[-1].capitalize())


def module_of(event: type[Event]) -> str:
    """Where a service imports an event from: those of generated services have a module each."""
    return "shared.events" if hasattr(shared.events, event.__name__) else event.__module__


def edits(new: NewEvent, root: Path) -> dict[str, str]:
    """The files that name it, with its lines; imports are left to be sorted."""
    read: Callable[[str], str] = lambda file: (root / file).read_text(encoding="utf-8")  # noqa: E731
    home = module_of(new.publisher.publishes[-1])
    _, head, classes = read(EXAMPLE).partition("\n\n\nclass ")
    for word, ours in zip(WORDS, (new.type, new.name, new.publisher.name.replace("_", " ")), strict=True):
        classes = classes.replace(word, ours)
    edited = {
        new.file: f"{read(new.file).rstrip()}{head}{classes}",
        new.contract: _published(new, read(new.contract), home),
    }
    if home == "shared.events":
        names = (new.name, f"{new.name}Data")
        text = read(LANGUAGE).replace("\n\n__all__", f"\nfrom {new.module} import {', '.join(names)}\n\n__all__")
        edited[LANGUAGE] = re.sub(r"\]\n*\Z", "".join(f'    "{name}",\n' for name in names) + "]\n", text)
    return edited


def _published(new: NewEvent, contract: str, home: str) -> str:
    """The contract, whose `publishes=` names the event."""
    found = [
        node.value
        for node in ast.walk(ast.parse(contract))
        if isinstance(node, ast.keyword) and node.arg == "publishes" and isinstance(node.value, ast.Tuple)
    ]
    if len(found) != 1 or not found[0].elts:
        raise Refused(f"{new.contract} has no `publishes=(...)` that lists events, to which {new.name} could be added")
    listed, last = (ast.get_source_segment(contract, node) or "" for node in (found[0], found[0].elts[-1]))
    before, _, after = listed.rpartition(last)
    end = ")" if after == ",)" else after
    text = contract.replace(listed, f"{before}{last}, {new.name}{end}")
    return re.sub(r"(?m)^(?=from |import )", f"from {home} import {new.name}\n", text, count=1)


def takers(new: NewEvent, registered: Iterable[ServiceContract]) -> Mapping[str, str]:
    """The queues that get it already, since they take a whole family, each with its service."""
    registered = tuple(registered)
    return {
        contract.queue_name(queue.name): contract.name
        for contract in registered
        for queue in contract.queues
        for pattern in patterns(queue, registered)
        if pattern.exchange == new.publisher.exchange and pattern.matches(new.type)
    }

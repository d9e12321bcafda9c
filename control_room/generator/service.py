"""A new service: a living example of `tests/examples`, renamed, and its lines in what all services share."""

import keyword
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from control_room.generator import deployment
from control_room.generator.checkout import EXAMPLES, Refused
from control_room.generator.deployment import Deployed
from control_room.generator.event import check_type, class_name, module_of
from shared.contract import ServiceContract
from shared.events import event_classes

CAUSE = "payment.succeeded.v1", "PaymentSucceeded"
"""The event that the examples take, and its class."""


@dataclass(frozen=True)
class Example:
    """`word`: what its service is called; in the new one the new name stands there. `event`: what it publishes."""

    word: str
    event: tuple[str, str] = ("", "")


KEEPS, PUBLISHES = Example("diary"), Example("herald", ("herald.announced.v1", "HeraldAnnounced"))


@dataclass(frozen=True)
class NewService:
    """What is asked for. `cause`: the type of the event that it takes. `publishes`: of a new one, or empty."""

    word: str
    cause: str
    publishes: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.word}_service"

    @property
    def example(self) -> Example:
        return PUBLISHES if self.publishes else KEEPS

    @property
    def test(self) -> str:
        return f"tests/service/test_{self.name}.py"

    def deployed(self) -> Deployed:
        return Deployed(self.name, self.port, f"{self.name}.work")


def checked(word: str, cause: str, publishes: str, registered: Iterable[ServiceContract]) -> NewService:
    """The service that these make. Raises `Refused` with what is wrong, and what is expected."""
    registered = tuple(registered)
    word = word.removesuffix("_service")
    _check_name(word, {contract.name for contract in registered})
    published = {event.type_name() for contract in registered for event in contract.publishes}
    if cause not in published:
        raise Refused(f"no service publishes {cause!r}; expected one of {', '.join(sorted(published))}")
    if publishes:
        check_type(publishes, f"{word}.earned.v1")
    if publishes and word in {contract.exchange for contract in registered}:
        raise Refused(f"the exchange {word!r} is another service's; choose another name")
    return NewService(word, cause, publishes, max(contract.port for contract in registered) + 1)


RESERVED = {
    *("api", "app", "contract", "events", "handlers", "migrations", "store"),  # modules of every service
    *("outbox", "milestones", "write_probe", "alembic_version"),  # tables of every service
    *("control", KEEPS.word, PUBLISHES.word),  # an exchange, and the examples
    "charge",  # the gateway's rows in an audit
}

MAX_LENGTH = 40
"""PostgreSQL cuts names off after 63 bytes."""


def _check_name(word: str, taken: set[str]) -> None:
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", word) or keyword.iskeyword(word) or len(word) > MAX_LENGTH:
        expected = f"a-z, 0-9 and single _, at most {MAX_LENGTH} of them, such as loyalty or gift_cards"
        raise Refused(f"{word!r} is no name of a service; expected {expected}")
    if f"{word}_service" in taken:
        raise Refused(f"there is a {word}_service already")
    if word in RESERVED:
        raise Refused(f"{word!r} is the name of something else in every service; choose another one")


def files(new: NewService, root: Path) -> dict[str, str]:
    """The files of its own, by path: the package, its events, its tests, its pod."""
    rename, package = _renaming(new), root / EXAMPLES / "services" / f"{new.example.word}_service"
    found = {
        f"{new.name}/{file.relative_to(package)}": file
        for file in sorted(package.rglob("*.py"))
        if file.name != "events.py"
    }
    if new.publishes:
        found[f"shared/events/{new.word}.py"] = package / "events.py"
    found[new.test] = root / EXAMPLES / f"test_{new.example.word}_service.py"
    texts = {rename(path): rename(file.read_text(encoding="utf-8")) for path, file in found.items()}
    contract = f"{new.name}/contract.py"
    texts[contract] = re.sub(r"port=\d+", f"port={new.port}", texts[contract])
    return {**texts, **deployment.files(root, new.deployed())}


def edits(new: NewService, last: ServiceContract, root: Path) -> dict[str, str]:
    """The shared files with the lines of the new service behind those of the last one."""
    return deployment.edited(root, Deployed(last.name, last.port), new.deployed())


def _renaming(new: NewService) -> Callable[[str], str]:
    """Replaces the words of the example, the longer ones first."""
    example, spoken, cause = new.example, new.word.replace("_", " "), event_classes()[new.cause]
    words = {
        f"{example.word}_service.events": f"shared.events.{new.word}",
        f"{example.word} service": f"{spoken} service",
        f"{example.word}:": f"{spoken}:",
        example.event[0]: new.publishes,
        example.event[1]: class_name(new.publishes) if new.publishes else "",
        CAUSE[0]: new.cause,
        f"from shared.events import {CAUSE[1]}": f"from {module_of(cause)} import {cause.__name__}",
        CAUSE[1]: cause.__name__,
        f'"{example.word.capitalize()} ': f'"{spoken.capitalize()} ',
        f'"{example.word.capitalize()}:': f'"{spoken.capitalize()}:',
        example.word: new.word,
    }
    pattern = re.compile("|".join(re.escape(word) for word in words if word))
    return lambda text: pattern.sub(lambda found: words[found[0]], text)

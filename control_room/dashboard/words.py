"""How the control-room page names things and says times. No I/O."""

import re
from datetime import UTC, datetime
from functools import cache

from shared import contract

CLASS_NAME = re.compile(r"\b(?:[A-Z][a-z]+){2,}: ")


@cache
def title(name: str) -> str:
    """What people call the service or queue of this name."""
    titles = {service.name: service.title for service in contract.services()}
    titles |= {queue_name: queue.title for queue_name, queue in contract.queues().items()}
    return titles.get(name, name.capitalize())


def phrase(name: str) -> str:
    """The same within a sentence: `the parcel service`, or a queue's title in quotation marks."""
    return f"“{title(name)}”" if "." in name else f"the {title(name).lower()}"


def plainly(sentence: str) -> str:
    """The sentence with titles in place of the technical names of queues and services."""
    for name in (*contract.queues(), *(service.name for service in contract.services())):
        sentence = sentence.replace(name, phrase(name))
    return sentence


def without_class(sentence: str) -> str:
    """The sentence without the names of exceptions that errors begin with, such as `ServerUnavailable: `."""
    return CLASS_NAME.sub("", sentence)


def capital(sentence: str) -> str:
    """The sentence, beginning with a capital letter."""
    return sentence[:1].upper() + sentence[1:]


def stamp(at: float | datetime) -> str:
    """A time, aware or in seconds since 1970, in RFC 3339: the page shows it in the viewer's time zone."""
    return (at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)).isoformat(timespec="milliseconds")

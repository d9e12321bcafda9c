"""A new notification channel: the lines of a living one, once more under another name.

So it tells the same people the same at first. The adapters for webhooks and for Apprise serve every channel.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from control_room.generator.checkout import Refused
from shared.contract import ServiceContract
from shared.settings import ServiceSettings

NOTIFIES, TAKES_ORDERS = "notification.delivered.v1", "order.placed.v1"
"""What the services publish whose files have a line for each channel."""

STATEMENT = r"\((?:.*|\n(?: +.*\n)+? *)\)$"
"""The rest of a call, on one line or on several."""

DELAYS = """
<NEW>_DELAYS = RetryDelays(
    "<NEW>_RETRY_DELAYS_SECONDS", <LIKE>_DELAYS.default_seconds, "the same for <spoken> messages"
)"""
SETTING = """
    <new>_url: str = Field("", repr=False, description=APPRISE)"""
QUEUE = r"""
    _channel("<new>", "<Spoken> messages"\1<NEW>_DELAYS\2"""
POD_URL = r"""
\1- name: <NEW>_URL
\1  valueFrom: {secretKeyRef: {name: channels, key: <NEW>_URL, optional: true}}"""
COMPOSE_DELAYS = r"""
  <NEW>_RETRY_DELAYS_SECONDS: ${<NEW>_RETRY_DELAYS_SECONDS:-\1"""

LINES = {
    "shared/events/notifications.py": {r"^ChannelName = Literal\[[^\]]*": ', "<new>"'},
    "<notifies>/contract.py": {
        rf"^<LIKE>_DELAYS = RetryDelays{STATEMENT}": DELAYS,
        r'^    _channel\("<like>", "[^"]*"(.*)<LIKE>_DELAYS(.*)$': QUEUE,
    },
    "<notifies>/notifications.py": {
        r'^    "<like>": (.*)$': r'\n    "<new>": \1',
        r'^        case "<like>":\n(.*)$': r'\n        case "<new>":\n\1',
    },
    "<notifies>/app.py": {
        rf"^    <like>_url: str = Field{STATEMENT}": SETTING,
        r'@field_validator\(.*"<like>_url"': ', "<new>_url"',
    },
    "<takes_orders>/shop/story.js": {
        r'^const CHANNELS = .*\b<like>: "[^"]*"': ', <new>: "<spoken> message"',
        r'^const PEOPLE = .*\b<like>: ("[^"]*")': r", <new>: \1",
    },
    "docker-compose.yml": {
        r"^  <LIKE>_RETRY_DELAYS_SECONDS: \$\{\w+:-(.*)$": COMPOSE_DELAYS,
        r"^      <LIKE>_URL: .*$": "\n      <NEW>_URL: ${<NEW>_URL:-}",
    },
    "deploy/kubernetes/base/<dashed>.yaml": {r"^( *)- name: <LIKE>_URL\n.*$": POD_URL},
    "deploy/kubernetes/overlays/cluster/scaling.yaml": {
        r"^    - type: rabbitmq\n(.*<notifies>\.)<like>\}\n(.*)$": r"\n    - type: rabbitmq\n\1<new>}\n\2"
    },
}
"""By file: what is found there of the living channel, and what comes behind it for the new one."""


@dataclass(frozen=True)
class NewChannel:
    """What is asked for. `like`: the channel whose lines are copied."""

    name: str
    like: str
    notifies: ServiceContract
    takes_orders: ServiceContract

    @property
    def templates(self) -> str:
        return f"{self.notifies.name}/templates/{self.name}"

    def fill(self, text: str) -> str:
        """The text with the words in `<>` filled in."""
        spoken = self.name.replace("_", " ")
        for word, value in {
            "<new>": self.name, "<NEW>": self.name.upper(), "<like>": self.like, "<LIKE>": self.like.upper(),
            "<spoken>": spoken, "<Spoken>": spoken.capitalize(), "<notifies>": self.notifies.name,
            "<takes_orders>": self.takes_orders.name, "<dashed>": self.notifies.name.replace("_", "-"),
        }.items():  # fmt: skip
            text = text.replace(word, value)
        return text


def checked(name: str, like: str, registered: Iterable[ServiceContract]) -> NewChannel:
    """The channel that these make. Raises `Refused` with what is wrong, and what is expected."""
    by_event = {event.type_name(): contract for contract in registered for event in contract.publishes}
    if missing := [event for event in (NOTIFIES, TAKES_ORDERS) if event not in by_event]:
        raise Refused(f"no registered service publishes {missing[0]}, so there is nothing that has channels")
    channels = [queue.name for queue in by_event[NOTIFIES].queues]
    if like not in channels:
        raise Refused(f"there is no channel {like!r}; expected one of {', '.join(channels)}")
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > MAX_LENGTH:
        expected = f"a-z, 0-9 and single _, at most {MAX_LENGTH} of them, such as chat"
        raise Refused(f"{name!r} is no name of a channel; expected {expected}")
    if name in channels:
        raise Refused(f"there is a channel {name} already")
    if f"{name}_url" in ServiceSettings.model_fields:
        raise Refused(f"{name.upper()}_URL is the address of something else; choose another name")
    return NewChannel(name, like, by_event[NOTIFIES], by_event[TAKES_ORDERS])


MAX_LENGTH = 20


def files(new: NewChannel, root: Path) -> dict[str, str]:
    """Its templates, with the words of those that are copied."""
    copied = root / new.notifies.name / "templates" / new.like
    return {f"{new.templates}/{file.name}": file.read_text(encoding="utf-8") for file in sorted(copied.glob("*.txt"))}


def edits(new: NewChannel, root: Path) -> dict[str, str]:
    """The files with a line for each channel. Raises `Refused` if the lines to be copied are not found in one.

    A file that is not there is passed over.
    """
    edited = {}
    for file, lines in {new.fill(file): lines for file, lines in LINES.items()}.items():
        if not (root / file).is_file():
            continue
        text = (root / file).read_text(encoding="utf-8")
        for pattern, addition in lines.items():
            text, count = re.subn(new.fill(pattern), rf"\g<0>{new.fill(addition)}", text, flags=re.MULTILINE)
            if not count:
                raise Refused(f"{file} has nothing like {new.fill(pattern)!r}, after which {new.name} could be written")
        edited[file] = text
    return edited

"""Compare a broker with the topology, create what is missing, keep it in place. Nothing here ever deletes."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from shared.management import Management, ManagementDenied, ManagementError
from shared.settings import BrokerSettings
from shared.topology.definition import Binding, Exchange, Item, Queue, ServiceUser, Topology, VirtualHost, topology

log = structlog.get_logger()

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
Passwords = Mapping[str, str]


@dataclass(frozen=True)
class Differs:
    """Something of ours exists with another property; RabbitMQ can't change it in place."""

    item: str
    argument: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.item}: {self.argument} should be {_shown(self.expected)} and is {_shown(self.found)}"


def _shown(value: object) -> str:
    return "not set" if value is None else repr(value)


@dataclass(frozen=True)
class Difference:
    """What a broker lacks, in an order in which it can be created, and what it holds otherwise."""

    missing: tuple[Item, ...]
    differs: tuple[Differs, ...]


class TopologyDiffers(Exception):
    """Some of it exists with other properties. Nothing was changed: only a person may drop messages."""

    def __init__(self, differences: tuple[Differs, ...]) -> None:
        items = ", ".join(dict.fromkeys(difference.item for difference in differences))
        lines = "".join(f"\n  {difference}" for difference in differences)
        super().__init__(
            f"the broker's topology differs:{lines}\n"
            f"RabbitMQ can't change this in place. Drain and delete {items}, then apply again."
        )
        self.differences = differences


async def difference(settings: BrokerSettings, *, passwords: Passwords | None = None) -> Difference:
    """Compare the broker with the topology and change nothing. Raises `ManagementError`."""
    async with Management(settings) as management:
        return await _compare(management, _wanted(settings), passwords or {})


async def apply(settings: BrokerSettings, *, passwords: Passwords | None = None) -> tuple[str, ...]:
    """Create what is missing and say what that was; nothing the second time.

    A service's user is created, or brought up to date, only if `passwords` has its password.
    Raises `TopologyDiffers` before anything is changed, `ManagementUnavailable`, `ManagementDenied`.
    """
    async with Management(settings) as management:
        found = await _compare(management, _wanted(settings), passwords or {})
        if found.differs:
            raise TopologyDiffers(found.differs)
        return await _create(management, found.missing, passwords or {})


async def keep(
    settings: BrokerSettings,
    *,
    passwords: Passwords | None = None,
    interval_seconds: float = 2.0,
    on_applied: Callable[[], None] = lambda: None,
) -> None:
    """Put back what goes missing, for ever; end it by cancelling.

    Waits for a broker that is away. A difference is logged once and does not stop the rest from being kept.
    `on_applied` is called whenever a round ends with all of it in place.
    """
    wanted, complaint = _wanted(settings), ""
    async with Management(settings) as management:
        while True:
            trouble = await _keep_once(management, wanted, passwords or {})
            if trouble != complaint:
                log.error("topology.not_kept", why=trouble) if trouble else log.info("topology.kept_again")
            if not trouble:
                on_applied()
            complaint = trouble
            await asyncio.sleep(interval_seconds)


def _wanted(settings: BrokerSettings) -> Topology:
    return topology(settings.retry_delays_of, controls=settings.controls_enabled)


async def _keep_once(management: Management, wanted: Topology, passwords: Passwords) -> str:
    """One round; what is wrong and can't be put right by it, or an empty string."""
    try:
        found = await _compare(management, wanted, passwords)
        for item in await _create(management, found.missing, passwords):
            log.warning("topology.put_in_place", item=item)
    except ManagementError as error:
        return str(error)
    return str(TopologyDiffers(found.differs)) if found.differs else ""


async def _compare(management: Management, wanted: Topology, passwords: Passwords) -> Difference:
    users = [user for user in wanted.users if passwords.get(user.name)]
    items: list[Item] = [VirtualHost(management.vhost, management.user), *users]
    items += [*wanted.exchanges, *wanted.queues, *wanted.bindings]
    found = await _read(management, users, passwords)
    return Difference(
        missing=tuple(item for item in items if str(item) not in found),
        differs=tuple(line for item in items if str(item) in found for line in _differs(item, found[str(item)])),
    )


def _differs(item: Item, found: Mapping[str, object]) -> list[Differs]:
    if not isinstance(item, Exchange | Queue):
        return []
    expected = item.properties
    return [
        Differs(str(item), name, expected.get(name), found.get(name))
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


async def _read(management: Management, users: list[ServiceUser], passwords: Passwords) -> dict[str, dict[str, object]]:
    """What is there, by the words that an item describes itself with; properties where they can differ."""
    if await management.find("vhosts", management.vhost) is None:
        return {}
    logins = [user for user in users if await _has_user(management, user, passwords)]
    enters = [VirtualHost(management.vhost, management.user)] if await _may_enter(management) else []
    without: list[Item] = [*enters, *logins, *await _bindings(management)]
    return {str(item): {} for item in without} | await _exchanges_and_queues(management)


async def _bindings(management: Management) -> list[Binding]:
    answers = await management.find("bindings", management.vhost) or []
    return [
        Binding(answer["source"], answer["destination"], answer["routing_key"])
        for answer in answers
        if answer["destination_type"] == "queue" and not answer["arguments"]
    ]


async def _exchanges_and_queues(management: Management) -> dict[str, dict[str, object]]:
    exchanges = await management.find("exchanges", management.vhost) or []
    queues = await management.find("queues", management.vhost, disable_stats="true") or []
    found = {
        f"exchange {answer['name']}": _properties(answer, "type", "durable", "auto_delete", "internal")
        for answer in exchanges
    }
    return found | {f"queue {answer['name']}": _properties(answer, "durable", "auto_delete") for answer in queues}


def _properties(answer: dict[str, Any], *names: str) -> dict[str, object]:
    properties: dict[str, object] = {name: answer.get(name) for name in names} | answer.get("arguments", {})
    if answer.get("type") == "classic":
        properties.setdefault("x-queue-type", "classic")  # left out of a classic queue's arguments
    return properties


async def _may_enter(management: Management) -> bool:
    try:
        return await management.find("permissions", management.vhost, management.user) is not None
    except ManagementDenied:
        return True  # not an administrator, so somebody else has given them this virtual host


async def _has_user(management: Management, user: ServiceUser, passwords: Passwords) -> bool:
    """Whether the user exists with this password and these permissions; if not, `_create` sets both."""
    login = await management.find("users", user.name)
    granted = await management.find("permissions", management.vhost, user.name)
    if login is None or granted is None:
        return False
    same_rights = all(granted[right] == pattern for right, pattern in user.permissions.items())
    return same_rights and _is_password(passwords[user.name], login["password_hash"], login["hashing_algorithm"])


def _is_password(password: str, salted_hash: str, algorithm: str) -> bool:
    """RabbitMQ keeps base64 of a four-byte salt and the hash of salt and password."""
    stored = base64.b64decode(salted_hash)
    hashed = hashlib.new(algorithm.rpartition("_")[2], stored[:4] + password.encode())
    return hmac.compare_digest(hashed.digest(), stored[4:])


async def _create(management: Management, missing: tuple[Item, ...], passwords: Passwords) -> tuple[str, ...]:
    for item in missing:
        await _put(management, item, passwords)
    return tuple(str(item) for item in missing)


async def _put(management: Management, item: Item, passwords: Passwords) -> None:
    vhost = management.vhost
    match item:
        case VirtualHost():
            await management.put("vhosts", vhost, body={})
            await management.put("permissions", vhost, item.user, body=EVERYTHING)
        case ServiceUser():
            await management.put("users", item.name, body={"password": passwords[item.name], "tags": ""})
            await management.put("permissions", vhost, item.name, body=item.permissions)
        case Exchange():
            await management.put("exchanges", vhost, item.name, body=item.properties)
        case Queue():
            body = {"durable": True, "auto_delete": False, "arguments": dict(item.arguments)}
            await management.put("queues", vhost, item.name, body=body)
        case Binding():
            path = ("bindings", vhost, "e", item.exchange, "q", item.queue)
            await management.post(*path, body={"routing_key": item.routing_key})

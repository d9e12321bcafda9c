"""Compare a broker with the topology, create what is missing, keep it in place. Nothing here ever deletes."""

import asyncio
import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from shared.contract import EVENTS
from shared.management import Management, ManagementDenied, ManagementError
from shared.settings import BrokerSettings
from shared.topology import (
    HASHING,
    HASHING_PLUGIN,
    NO_PASSWORDS,
    Binding,
    Exchange,
    Item,
    Passwords,
    Policy,
    Queue,
    ServiceUser,
    VirtualHost,
    topology,
)
from shared.waiting import poll

log = structlog.get_logger()

NODES_SECONDS, POLL_SECONDS = 60.0, 0.5
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


@dataclass(frozen=True)
class Differs:
    """An item exists with another property; RabbitMQ can't change it in place."""

    item: str
    argument: str
    expected: object
    found: object

    def __str__(self) -> str:
        expected, found = ("not set" if value is None else repr(value) for value in (self.expected, self.found))
        return f"{self.item}: {self.argument} should be {expected} and is {found}"


@dataclass(frozen=True)
class Difference:
    """What a broker should hold, in an order in which it can be created; what it lacks, and what differs.

    `others`: durable queues beside it, such as those of a service that was taken out. Bound ones fill up.
    """

    items: tuple[Item, ...]
    missing: tuple[Item, ...]
    differs: tuple[Differs, ...]
    others: tuple[str, ...]


class TopologyDiffers(Exception):
    """Some of it exists with other properties. Nothing was changed, since only a person may drop messages."""

    def __init__(self, differences: tuple[Differs, ...]) -> None:
        items = ", ".join(dict.fromkeys(difference.item for difference in differences))
        lines = "".join(f"\n  {difference}" for difference in differences)
        super().__init__(
            f"the broker's topology differs:{lines}\n"
            f"RabbitMQ can't change this in place. Drain and delete {items}, then apply again."
        )
        self.differences = differences


async def difference(settings: BrokerSettings, *, passwords: Passwords = NO_PASSWORDS) -> Difference:
    """Compare the broker with the topology and change nothing. Raises `ManagementError`."""
    async with Management(settings) as management:
        return await _compare(management, _expected(settings, passwords))


async def apply(settings: BrokerSettings, *, passwords: Passwords = NO_PASSWORDS) -> tuple[str, ...]:
    """Create what is missing, and return the items that were created; none the second time.

    A service's user is created, or gets its password and permissions again, only if `passwords` has its password.
    Raises `TopologyDiffers` before anything is changed, or `ManagementError`.
    """
    async with Management(settings) as management:
        found = await _compare(management, _expected(settings, passwords))
        if found.differs:
            raise TopologyDiffers(found.differs)
        await _until_every_node_runs(management, found)
        for item in found.missing:
            await _create(management, item)
        return tuple(map(str, found.missing))


async def keep(
    settings: BrokerSettings,
    *,
    passwords: Passwords = NO_PASSWORDS,
    interval_seconds: float = 2.0,
    on_applied: Callable[[], None] = lambda: None,
) -> None:
    """Put back what goes missing, for ever; end it by cancelling.

    Waits for a broker that is away. A difference is logged once and does not stop the rest from being kept.
    `on_applied` is called whenever a round ends with all of it in place.
    """
    expected, logged = _expected(settings, passwords), ""
    async with Management(settings) as management:
        while True:
            problem = await _keep_once(management, expected)
            if problem != logged:
                log.error("topology.not_kept", why=problem) if problem else log.info("topology.kept_again")
            if not problem:
                on_applied()
            logged = problem
            await asyncio.sleep(interval_seconds)


def _expected(settings: BrokerSettings, passwords: Passwords) -> tuple[Item, ...]:
    return topology(
        settings.retry_delays_of,
        controls=settings.controls_enabled,
        passwords=passwords,
        events_kept_hours=settings.events_kept_hours,
        events_kept_bytes=settings.events_kept_bytes,
    )


async def _keep_once(management: Management, expected: tuple[Item, ...]) -> str:
    """One round; the problem that it can't solve, or an empty string."""
    try:
        found = await _compare(management, expected)
        await _until_every_node_runs(management, found)
        for item in found.missing:
            await _create(management, item)
            log.warning("topology.put_in_place", item=str(item))
    except ManagementError as error:
        return str(error)
    return str(TopologyDiffers(found.differs)) if found.differs else ""


async def _until_every_node_runs(management: Management, found: Difference) -> None:
    """Before the first queue is created in a cluster: a queue has members on the nodes that run then.

    Quorum queues may get more later, a stream does not by itself. After a minute the queues are created all the same.
    """
    is_new = all(item in found.missing for item in found.items if isinstance(item, Queue))
    if not is_new or management.node_count == 1:
        return

    async def all_run() -> bool:
        nodes = await management.find("nodes") or []
        return sum(bool(node.get("running")) for node in nodes) >= management.node_count

    if not await poll(all_run, within_seconds=NODES_SECONDS, every_seconds=POLL_SECONDS, not_yet=(ManagementError,)):
        log.warning("topology.nodes_missing", expected=management.node_count)


async def _compare(management: Management, expected: tuple[Item, ...]) -> Difference:
    items = (VirtualHost(management.vhost, management.user), *expected)
    await _expect_exchange_types(management, expected)
    found = await _read(management, expected)
    differs = [line for item in items if str(item) in found for line in _differs(item, found[str(item)])]
    return Difference(
        items=items,
        missing=tuple(item for item in items if str(item) not in found),
        differs=(*differs, *_surplus_partitions(expected, found)),
        others=tuple(sorted(name for name in {*found} - {*map(str, items)} if _is_forgotten(name, found[name]))),
    )


def _is_forgotten(item: str, properties: Mapping[str, object]) -> bool:
    """Whether it is a queue that stays for ever. The stream of events does not fill up while nothing is to be kept."""
    is_lasting = bool(properties.get("durable")) and not properties.get("auto_delete")
    return item.startswith("queue ") and item != f"queue {EVENTS}" and is_lasting


async def _expect_exchange_types(management: Management, expected: tuple[Item, ...]) -> None:
    """Raises `ManagementError` where partitions lack their plugin. Nothing is asked where there are none."""
    partitioned = [item.name for item in expected if isinstance(item, Exchange) and item.type == HASHING]
    if not partitioned:
        return
    types = {each["name"] for each in (await management.find("overview") or {}).get("exchange_types", ())}
    if HASHING not in types:
        raise ManagementError(
            f"RabbitMQ has no exchanges of the type {HASHING}, which partitions need "
            f"({', '.join(partitioned)}). On every node: rabbitmq-plugins enable {HASHING_PLUGIN}"
        )


def _surplus_partitions(expected: tuple[Item, ...], found: Iterable[str]) -> list[Differs]:
    """Bindings to a partition of before, or to the queue as it was without partitions: nobody takes from there."""
    exchanges = [item.name for item in expected if isinstance(item, Exchange) and item.type == HASHING]
    surplus = [item for item in found if re.match(r"binding \S", item)]  # not those of the default exchange
    return [
        Differs(item, "exists", False, True)
        for item in sorted({*surplus} - {*map(str, expected)})
        if any(item.startswith(f"binding {name} --") or item.endswith(f"--> {name}") for name in exchanges)
    ]


def _differs(item: Item, found: Mapping[str, object]) -> list[Differs]:
    if not isinstance(item, Exchange | Queue):
        return []
    expected = item.properties
    return [
        Differs(str(item), name, expected.get(name), found.get(name))
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


async def _read(management: Management, expected: tuple[Item, ...]) -> dict[str, dict[str, object]]:
    """The properties of what exists, by the item's name in words; empty where none can differ.

    A user or policy that is not as it should be counts as missing, since it can be changed in place.
    """
    if await management.find("vhosts", management.vhost) is None:
        return {}
    logins = [item for item in expected if isinstance(item, ServiceUser) and await _has_user(management, item)]
    policies = [item for item in expected if isinstance(item, Policy) and await _has_policy(management, item)]
    vhosts = [VirtualHost(management.vhost, management.user)] if await _may_enter(management) else []
    existing: list[Item] = [*vhosts, *logins, *policies, *await _bindings(management)]
    return {str(item): {} for item in existing} | await _exchanges_and_queues(management)


async def _bindings(management: Management) -> list[Binding]:
    answers = await management.find("bindings", management.vhost) or []
    return [
        Binding(
            answer["source"], answer["destination"], answer["routing_key"], answer["destination_type"] == "exchange"
        )
        for answer in answers
        if not answer["arguments"]
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
        return True  # this user is no administrator, so an administrator has given it this virtual host


async def _has_user(management: Management, user: ServiceUser) -> bool:
    """Whether the user exists with this password and these permissions."""
    login = await management.find("users", user.name)
    granted = await management.find("permissions", management.vhost, user.name)
    if login is None or granted is None:
        return False
    same_rights = all(granted[right] == pattern for right, pattern in user.permissions.items())
    return same_rights and _is_password(user.password, login["password_hash"], login["hashing_algorithm"])


async def _has_policy(management: Management, policy: Policy) -> bool:
    found = await management.find("policies", management.vhost, policy.queue)
    return found is not None and found.items() >= policy.properties.items()


def _is_password(password: str, salted_hash: str, algorithm: str) -> bool:
    """RabbitMQ keeps base64 of a four-byte salt and the hash of salt and password."""
    stored = base64.b64decode(salted_hash)
    hashed = hashlib.new(algorithm.rpartition("_")[2], stored[:4] + password.encode())
    return hmac.compare_digest(hashed.digest(), stored[4:])


async def _create(management: Management, item: Item) -> None:
    vhost = management.vhost
    match item:
        case VirtualHost():
            await management.put("vhosts", vhost, body={})
            await management.put("permissions", vhost, item.user, body=EVERYTHING)
        case ServiceUser():
            await management.put("users", item.name, body={"password": item.password, "tags": ""})
            await management.put("permissions", vhost, item.name, body=dict(item.permissions))
        case Exchange():
            body = {"type": item.type, "durable": True, "arguments": dict(item.arguments)}
            await management.put("exchanges", vhost, item.name, body=body)
        case Queue():
            body = {"durable": True, "auto_delete": False, "arguments": dict(item.arguments)}
            await management.put("queues", vhost, item.name, body=body)
        case Policy():
            await management.put("policies", vhost, item.queue, body=item.properties)
        case Binding():
            path = ("bindings", vhost, "e", item.exchange, "e" if item.to_exchange else "q", item.queue)
            await management.post(*path, body={"routing_key": item.routing_key})

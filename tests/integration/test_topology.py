"""The topology on a real broker: created, compared, kept, and how its queues behave."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

import pika
import pika.exceptions
import pytest
import pytest_asyncio
from pika.adapters.blocking_connection import BlockingChannel

from control_room.launcher.broker import PrivateBroker
from shared.contract import EVENTS
from shared.management import Management, ManagementUnavailable
from shared.settings import BrokerSettings
from shared.topology import dead_queue
from shared.topology.provision import Differs, TopologyDiffers, apply, difference, keep
from tests.conftest import Broker
from tests.support import eventually

CHARGE = "payment_service.charge"
TRACK = "order_service.track"
OTHER_ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": 5}


def settings_for(broker: Broker | PrivateBroker, vhost: str) -> BrokerSettings:
    return BrokerSettings(
        rabbitmq_url=broker.amqp_url(vhost),
        rabbitmq_management_url=broker.management_url,
        retry_delays_seconds=(0.2, 0.5),
    )


@pytest_asyncio.fixture
async def settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host that does not exist yet."""
    settings = settings_for(broker, f"topology-{uuid.uuid4().hex[:8]}")
    yield settings
    async with Management(settings) as management:
        await management.delete("vhosts", settings.vhost)


@pytest_asyncio.fixture
async def applied(settings: BrokerSettings) -> BrokerSettings:
    """A virtual host with the topology in it."""
    await apply(settings)
    return settings


@pytest_asyncio.fixture
async def management(settings: BrokerSettings) -> AsyncIterator[Management]:
    async with Management(settings) as management:
        yield management


@asynccontextmanager
async def kept(settings: BrokerSettings, on_applied: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """The topology is kept until the block ends."""
    keeping = asyncio.create_task(keep(settings, interval_seconds=0.1, on_applied=on_applied))
    yield
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


def with_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{quote(password)}@{parts.netloc.rpartition('@')[2]}").geturl()


@contextmanager
def channel(url: str) -> Iterator[BlockingChannel]:
    """A channel with publisher confirms."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    opened = connection.channel()
    opened.confirm_delivery()
    yield opened
    if connection.is_open:
        connection.close()


async def publish(management: Management, exchange: str, routing_key: str) -> bool:
    body = {"routing_key": routing_key, "payload": "{}", "payload_encoding": "string", "properties": {}}
    answer = await management.post("exchanges", management.vhost, exchange, "publish", body=body)
    return bool(answer["routed"])


async def messages_in(management: Management, queue: str) -> list[dict[str, Any]]:
    """The messages of a queue, left where they are."""
    body = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    messages: list[dict[str, Any]] = await management.post("queues", management.vhost, queue, "get", body=body)
    return messages


@pytest.mark.parametrize("name", ["a/b c", "100%41", "straße?#&", "."])
async def test_a_virtual_host_may_have_any_name(broker: Broker, name: str) -> None:
    settings = settings_for(broker, f"{uuid.uuid4().hex[:8]} {name}")
    async with Management(settings) as management:
        await apply(settings)

        assert await apply(settings) == ()
        assert (await management.find("vhosts", settings.vhost))["name"] == settings.vhost
        with channel(settings.rabbitmq_url) as over_amqp:
            over_amqp.queue_declare(CHARGE, passive=True)
        await management.delete("vhosts", settings.vhost)


@pytest.mark.usefixtures("applied")
async def test_an_event_of_an_unknown_version_reaches_the_queue(management: Management) -> None:
    assert await publish(management, "orders", "order.placed.v99")
    assert not await publish(management, "orders", "order.unheard_of.v1")

    (message,) = await eventually(lambda: messages_in(management, CHARGE))
    assert message["routing_key"] == "order.placed.v99"


async def test_items_with_other_properties_are_reported_and_nothing_is_changed(
    settings: BrokerSettings, management: Management
) -> None:
    await management.put("vhosts", settings.vhost, body={})
    await management.put("queues", settings.vhost, CHARGE, body={"durable": True, "arguments": OTHER_ARGUMENTS})
    await management.put("queues", settings.vhost, TRACK, body={"durable": True})
    await management.put("exchanges", settings.vhost, "orders", body={"type": "direct", "durable": True})

    with pytest.raises(TopologyDiffers) as caught:
        await apply(settings)

    differs = caught.value.differences
    assert differs == (await difference(settings)).differs
    assert Differs(f"queue {CHARGE}", "x-delivery-limit", 20, None) in differs
    assert Differs(f"queue {CHARGE}", "x-max-length", None, 5) in differs
    assert Differs(f"queue {TRACK}", "x-queue-type", "quorum", "classic") in differs
    assert Differs("exchange orders", "type", "topic", "direct") in differs
    assert f"queue {CHARGE}: x-max-length should be not set and is 5" in str(caught.value)
    assert f"Drain and delete exchange orders, queue {TRACK}, queue {CHARGE}" in str(caught.value)
    queues = {queue["name"]: queue for queue in await management.find("queues", settings.vhost)}
    assert sorted(queues) == [TRACK, CHARGE]
    assert queues[CHARGE]["arguments"] == OTHER_ARGUMENTS
    assert queues[TRACK]["type"] == "classic"


async def test_what_goes_missing_is_put_back_though_another_item_differs(
    applied: BrokerSettings, management: Management
) -> None:
    await management.delete("queues", applied.vhost, CHARGE)
    await management.put("queues", applied.vhost, CHARGE, body={"durable": True, "arguments": OTHER_ARGUMENTS})

    async with kept(applied):
        await management.delete("queues", applied.vhost, TRACK)
        await management.delete("exchanges", applied.vhost, "payments")

        async def all_is_there() -> bool:
            return not (await difference(applied)).missing

        await eventually(all_is_there)
    assert await publish(management, "payments", "payment.succeeded.v1")
    assert {line.item for line in (await difference(applied)).differs} == {f"queue {CHARGE}"}


async def test_queues_beside_the_topology_are_told_unless_they_go_by_themselves(
    applied: BrokerSettings, management: Management
) -> None:
    """A service that is no longer registered leaves its queue behind, and its binding fills it."""
    await management.put("queues", applied.vhost, "loyalty_service.work", body={"durable": True})
    await management.put("queues", applied.vhost, "a.look", body={"auto_delete": True})
    await management.put("queues", applied.vhost, EVENTS, body={"durable": True})

    assert (await difference(applied)).others == ("queue loyalty_service.work",)
    assert await apply(applied) == ()


@pytest_asyncio.fixture
async def no_service_users(management: Management) -> AsyncIterator[None]:
    """Users belong to the broker, not to a virtual host: none stays behind."""
    yield
    for service in ("order_service", "payment_service"):
        await management.delete("users", service)


FORBIDDEN: dict[str, Callable[[BlockingChannel], object]] = {
    "read another's queue": lambda own: own.basic_get("notification_service.email"),
    "publish another's events": lambda own: own.basic_publish("orders", "order.placed.v1", b"{}"),
    "declare a queue": lambda own: own.queue_declare("mine"),
    "delete its queue": lambda own: own.queue_delete(CHARGE),
    "empty another's queue": lambda own: own.queue_purge(TRACK),
}


@pytest.mark.usefixtures("no_service_users")
async def test_a_service_with_a_password_gets_a_user_with_its_own_permissions_alone(applied: BrokerSettings) -> None:
    passwords = {"payment_service": uuid.uuid4().hex}

    assert await apply(applied, passwords=passwords) == ("user payment_service with its permissions",)
    assert await apply(applied, passwords=passwords) == ()
    url = with_user(applied.rabbitmq_url, "payment_service", passwords["payment_service"])
    with channel(url) as own:
        own.queue_declare(CHARGE, passive=True)
        own.basic_publish("payments", "payment.succeeded.v1", b"{}", mandatory=True)
        own.basic_publish("", dead_queue(CHARGE), b"{}", mandatory=True)
        own.basic_get(CHARGE, auto_ack=True)
    refusals = {}
    for name, act in FORBIDDEN.items():
        with channel(url) as own, pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
            act(own)
        refusals[name] = caught.value.reply_text.partition(" ")[0]
    assert refusals == dict.fromkeys(FORBIDDEN, "ACCESS_REFUSED")


@pytest.mark.usefixtures("no_service_users")
async def test_a_new_password_and_lost_permissions_are_put_right(
    applied: BrokerSettings, management: Management
) -> None:
    await apply(applied, passwords={"order_service": "old"})
    await management.put("permissions", applied.vhost, "order_service", body={"configure": "", "write": "", "read": ""})

    assert await apply(applied, passwords={"order_service": "old"})
    assert await apply(applied, passwords={"order_service": "new"})
    assert await apply(applied, passwords={"order_service": "new"}) == ()
    with channel(with_user(applied.rabbitmq_url, "order_service", "new")) as own:
        own.basic_get(TRACK)


async def test_keep_goes_on_after_the_broker_was_away(breakable_broker: PrivateBroker) -> None:
    settings = settings_for(breakable_broker, "restarted")
    rounds: list[float] = []
    async with kept(settings, on_applied=lambda: rounds.append(time.monotonic())):
        await eventually(lambda: rounds)
        await breakable_broker.kill()
        with pytest.raises(ManagementUnavailable):
            await difference(settings)
        await breakable_broker.start()
        async with Management(settings) as management:
            await management.delete("queues", "restarted", CHARGE)
            await eventually(lambda: management.find("queues", "restarted", CHARGE))

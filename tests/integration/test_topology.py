"""The topology on a real broker: created, compared, kept, and what its queues then do."""

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
from shared.management import Management, ManagementDenied, ManagementUnavailable
from shared.settings import BrokerSettings
from shared.topology import dead_queue, retry_queue
from shared.topology.provision import Differs, TopologyDiffers, apply, difference, keep
from tests.conftest import Broker
from tests.support import eventually

CHARGE = "payment_service.charge"
TRACK = "order_service.track"
DELAYS_SECONDS = (0.2, 0.5)
OTHER_ARGUMENTS = {"x-queue-type": "quorum", "x-max-length": 5}


def settings_for(broker: Broker, vhost: str) -> BrokerSettings:
    return BrokerSettings(
        rabbitmq_url=broker.amqp_url(vhost),
        rabbitmq_management_url=broker.management_url,
        retry_delays_seconds=DELAYS_SECONDS,
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
async def kept(settings: BrokerSettings) -> AsyncIterator[None]:
    keeping = asyncio.create_task(keep(settings, interval_seconds=0.1))
    yield
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


@contextmanager
def channel(settings: BrokerSettings, user: str = "", password: str = "") -> Iterator[BlockingChannel]:
    url = urlsplit(settings.rabbitmq_url)
    if user:
        url = url._replace(netloc=f"{user}:{quote(password)}@{url.netloc.rpartition('@')[2]}")
    connection = pika.BlockingConnection(pika.URLParameters(url.geturl()))
    yield connection.channel()
    if connection.is_open:
        connection.close()


async def publish(management: Management, exchange: str, routing_key: str) -> bool:
    body = {"routing_key": routing_key, "payload": "{}", "payload_encoding": "string", "properties": {}}
    answer = await management.post("exchanges", management.vhost, exchange, "publish", body=body)
    return bool(answer["routed"])


async def look_into(management: Management, queue: str) -> list[dict[str, Any]]:
    """The messages of a queue, left where they are."""
    body = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
    messages: list[dict[str, Any]] = await management.post("queues", management.vhost, queue, "get", body=body)
    return messages


async def test_what_is_applied_twice_is_created_once(settings: BrokerSettings) -> None:
    first = await apply(settings)

    assert f"virtual host {settings.vhost}" in first
    assert f"queue {CHARGE}" in first
    assert f"queue {CHARGE}.retry.0.2s" in first
    assert f"binding orders --order.placed.*--> {CHARGE}" in first
    assert await apply(settings) == ()
    assert not (await difference(settings)).missing


async def test_looking_for_the_difference_creates_nothing(settings: BrokerSettings, management: Management) -> None:
    missing = (await difference(settings)).missing

    assert f"virtual host {settings.vhost}" in [str(item) for item in missing]
    assert await management.find("vhosts", settings.vhost) is None


@pytest.mark.parametrize("name", ["a/b c", "100%41", "straße?#&", "."])
async def test_a_virtual_host_may_have_any_name(broker: Broker, name: str) -> None:
    settings = settings_for(broker, f"{uuid.uuid4().hex[:8]} {name}")
    async with Management(settings) as management:
        await apply(settings)

        assert await apply(settings) == ()
        assert (await management.find("vhosts", settings.vhost))["name"] == settings.vhost
        with channel(settings) as over_amqp:
            over_amqp.queue_declare(CHARGE, passive=True)
        await management.delete("vhosts", settings.vhost)


async def test_an_event_of_an_unknown_version_reaches_the_queue(
    applied: BrokerSettings, management: Management
) -> None:
    assert await publish(management, "orders", "order.placed.v99")
    assert not await publish(management, "orders", "order.unheard_of.v1")

    message = await eventually(lambda: look_into(management, CHARGE))
    assert message[0]["routing_key"] == "order.placed.v99"


async def test_a_message_in_a_retry_queue_comes_back_after_its_delay(
    applied: BrokerSettings, management: Management
) -> None:
    with channel(applied) as over_amqp:
        over_amqp.confirm_delivery()
        start = time.monotonic()
        over_amqp.basic_publish("", retry_queue(CHARGE, 0.5), b"{}", mandatory=True)

    assert await look_into(management, CHARGE) == []
    assert await eventually(lambda: look_into(management, CHARGE))
    assert time.monotonic() - start >= 0.5


async def test_what_a_consumer_returns_too_often_is_dead_lettered(
    applied: BrokerSettings, management: Management
) -> None:
    await publish(management, "orders", "order.placed.v1")

    def reject_all() -> bool:
        with channel(applied) as over_amqp:
            method, _, _ = over_amqp.basic_get(CHARGE)
            if method:
                over_amqp.basic_reject(method.delivery_tag, requeue=True)
        return method is None

    await eventually(reject_all)
    assert await eventually(lambda: look_into(management, dead_queue(CHARGE)))


async def test_a_dead_letter_may_be_looked_at_any_number_of_times(
    applied: BrokerSettings, management: Management
) -> None:
    with channel(applied) as over_amqp:
        over_amqp.confirm_delivery()
        over_amqp.basic_publish("", dead_queue(CHARGE), b"{}", mandatory=True)
        for _ in range(50):
            method, _, _ = over_amqp.basic_get(dead_queue(CHARGE))
            if method:
                over_amqp.basic_reject(method.delivery_tag, requeue=True)

    assert await eventually(lambda: look_into(management, dead_queue(CHARGE)))


async def test_a_deleted_queue_is_put_back(applied: BrokerSettings, management: Management) -> None:
    async with kept(applied):
        await management.delete("queues", applied.vhost, CHARGE)
        await management.delete("exchanges", applied.vhost, "payments")

        async def all_is_there() -> bool:
            return not (await difference(applied)).missing

        await eventually(all_is_there)
        assert await publish(management, "orders", "order.placed.v1")


async def test_a_queue_with_other_arguments_is_reported_and_nothing_is_changed(
    settings: BrokerSettings, management: Management
) -> None:
    await management.put("vhosts", settings.vhost, body={})
    other = {"durable": True, "arguments": OTHER_ARGUMENTS}
    await management.put("queues", settings.vhost, CHARGE, body=other)

    with pytest.raises(TopologyDiffers) as caught:
        await apply(settings)

    assert Differs(f"queue {CHARGE}", "x-delivery-limit", 20, None) in caught.value.differences
    assert Differs(f"queue {CHARGE}", "x-max-length", None, 5) in caught.value.differences
    assert f"queue {CHARGE}: x-max-length should be not set and is 5" in str(caught.value)
    assert f"Drain and delete queue {CHARGE}" in str(caught.value)
    queues = await management.find("queues", settings.vhost)
    assert [(queue["name"], queue["arguments"]) for queue in queues] == [(CHARGE, OTHER_ARGUMENTS)]


async def test_a_classic_queue_and_a_direct_exchange_are_reported(
    settings: BrokerSettings, management: Management
) -> None:
    await management.put("vhosts", settings.vhost, body={})
    await management.put("queues", settings.vhost, TRACK, body={"durable": True})
    await management.put("exchanges", settings.vhost, "orders", body={"type": "direct", "durable": True})

    differs = (await difference(settings)).differs

    assert Differs(f"queue {TRACK}", "x-queue-type", "quorum", "classic") in differs
    assert Differs("exchange orders", "type", "topic", "direct") in differs


async def test_a_difference_does_not_stop_the_rest_from_being_kept(
    applied: BrokerSettings, management: Management
) -> None:
    await management.delete("queues", applied.vhost, CHARGE)
    await management.put("queues", applied.vhost, CHARGE, body={"durable": True, "arguments": OTHER_ARGUMENTS})
    await management.delete("queues", applied.vhost, TRACK)

    async with kept(applied):
        await eventually(lambda: management.find("queues", applied.vhost, TRACK))

    assert {line.item for line in (await difference(applied)).differs} == {f"queue {CHARGE}"}


@pytest_asyncio.fixture
async def no_service_users(management: Management) -> AsyncIterator[None]:
    """Users belong to the broker, not to a virtual host: none stays behind."""
    yield
    for service in ("order_service", "payment_service"):
        await management.delete("users", service)


@pytest.mark.usefixtures("no_service_users")
async def test_a_service_with_a_password_gets_a_user_of_its_own(applied: BrokerSettings) -> None:
    passwords = {"payment_service": uuid.uuid4().hex}

    assert await apply(applied, passwords=passwords) == ("user payment_service with its permissions",)
    assert await apply(applied, passwords=passwords) == ()
    with channel(applied, "payment_service", passwords["payment_service"]) as own:
        own.confirm_delivery()
        own.queue_declare(CHARGE, passive=True)
        own.basic_publish("payments", "payment.succeeded.v1", b"{}", mandatory=True)
        own.basic_publish("", dead_queue(CHARGE), b"{}", mandatory=True)
        own.basic_get(CHARGE, auto_ack=True)


FORBIDDEN: dict[str, Callable[[BlockingChannel], object]] = {
    "read another's queue": lambda own: own.basic_get("notification_service.email"),
    "publish another's events": lambda own: own.basic_publish("orders", "order.placed.v1", b"{}"),
    "declare a queue": lambda own: own.queue_declare("mine"),
    "delete its queue": lambda own: own.queue_delete(CHARGE),
    "empty another's queue": lambda own: own.queue_purge(TRACK),
}


@pytest.mark.usefixtures("no_service_users")
@pytest.mark.parametrize("act", FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_a_service_may_not(applied: BrokerSettings, act: Callable[[BlockingChannel], object]) -> None:
    await apply(applied, passwords={"payment_service": "p"})

    with channel(applied, "payment_service", "p") as own:
        own.confirm_delivery()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
            act(own)


@pytest.mark.usefixtures("no_service_users")
async def test_a_new_password_and_lost_permissions_are_put_right(
    applied: BrokerSettings, management: Management
) -> None:
    await apply(applied, passwords={"order_service": "old"})
    await management.put("permissions", applied.vhost, "order_service", body={"configure": "", "write": "", "read": ""})

    assert await apply(applied, passwords={"order_service": "old"})
    assert await apply(applied, passwords={"order_service": "new"})
    assert await apply(applied, passwords={"order_service": "new"}) == ()
    with channel(applied, "order_service", "new") as own:
        own.basic_get(TRACK)


async def test_a_broker_that_is_away_is_said_to_be_away() -> None:
    settings = BrokerSettings(rabbitmq_management_url="http://guest:secret@127.0.0.1:1")

    with pytest.raises(ManagementUnavailable, match=r"http://127\.0\.0\.1:1 can't be used") as caught:
        await apply(settings)
    assert "secret" not in str(caught.value)


async def test_a_port_where_something_else_listens_is_no_broker(broker: Broker) -> None:
    amqp_port = urlsplit(broker.amqp_url()).port
    with pytest.raises(ManagementUnavailable):
        await difference(BrokerSettings(rabbitmq_management_url=f"http://guest:guest@127.0.0.1:{amqp_port}"))


async def test_wrong_credentials_are_said_to_be_wrong(settings: BrokerSettings) -> None:
    url = urlsplit(settings.management_url)
    wrong = url._replace(netloc=f"nobody:secret@{url.netloc.rpartition('@')[2]}").geturl()

    with pytest.raises(ManagementDenied, match="user 'nobody'") as caught:
        await apply(BrokerSettings(rabbitmq_url=settings.rabbitmq_url, rabbitmq_management_url=wrong))
    assert "secret" not in str(caught.value)


async def test_keep_outlives_the_broker(breakable_broker: PrivateBroker) -> None:
    settings = settings_for(breakable_broker, "restarted")
    rounds: list[float] = []
    keeping = asyncio.create_task(
        keep(settings, interval_seconds=0.1, on_applied=lambda: rounds.append(time.monotonic()))
    )
    await eventually(lambda: rounds)

    await breakable_broker.kill()
    with pytest.raises(ManagementUnavailable):
        await difference(settings)
    await breakable_broker.start()
    async with Management(settings) as management:
        await management.delete("queues", "restarted", CHARGE)
        await eventually(lambda: management.find("queues", "restarted", CHARGE))

    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping

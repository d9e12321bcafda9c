"""A service that may be controlled does what it hears on the exchange `control`; one that may not hears nothing."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pika
import pika.exceptions
import pytest
import pytest_asyncio

from shared.management import Management
from shared.settings import BrokerSettings
from shared.topology import provision, topology
from tests.amqp import close_connection
from tests.conftest import Broker, virtual_host
from tests.examples import order_placed
from tests.service.process import RunningService, running
from tests.service.wire import Wire
from tests.support import eventually

SERVICE = "payment_service"
CHARGE = "payment_service.charge"
USER = f"service-{uuid.uuid4().hex[:8]}"  # no service's own name: users belong to the broker, and to other tests too


@pytest_asyncio.fixture(scope="module")
async def settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host with controls."""
    async with virtual_host(broker) as plain:
        yield await with_controls(plain)


@pytest_asyncio.fixture(scope="module")
async def own_settings(settings: BrokerSettings) -> AsyncIterator[BrokerSettings]:
    """As a user with the rights that the service has in containers, not as the administrator."""
    (rights,) = (user.permissions for user in topology(lambda _queue: (), controls=True).users if user.name == SERVICE)
    parts = urlsplit(settings.rabbitmq_url)
    own_url = parts._replace(netloc=f"{USER}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
    async with Management(settings) as management:
        await management.put("users", USER, body={"password": "secret", "tags": ""})
        await management.put("permissions", settings.vhost, USER, body=rights)
        yield settings.model_copy(update={"rabbitmq_url": own_url})
        await management.delete("users", USER)


@pytest_asyncio.fixture(scope="module")
async def service(own_settings: BrokerSettings, directory: Path) -> AsyncIterator[RunningService]:
    async with running(SERVICE, own_settings, directory, CONTROLS_ENABLED="true") as service:
        yield service


@pytest_asyncio.fixture(scope="module")
async def wire(settings: BrokerSettings) -> AsyncIterator[Wire]:
    async with Wire.open(settings) as wire:
        yield wire


async def with_controls(plain: BrokerSettings) -> BrokerSettings:
    settings = plain.model_copy(update={"controls_enabled": True})
    await provision.apply(settings)
    return settings


async def tell(wire: Wire, body: bytes | str = "", **command: object) -> None:
    """Tell the service, once somebody hears it."""
    text = body or json.dumps(command)
    raw = text.encode() if isinstance(text, str) else text

    def is_heard() -> bool:
        try:
            wire.publish("control", SERVICE, raw, pika.BasicProperties())
        except pika.exceptions.UnroutableError:
            return False
        return True

    await eventually(is_heard, expecting="the service to listen")


async def is_charged(wire: Wire, order_id: str) -> None:
    await wire.event("payments", order_id, "payment.succeeded.v1")


async def waiting(settings: BrokerSettings) -> int:
    async with Management(settings) as management:
        found = await management.find("queues", management.vhost, CHARGE)
    return int(found.get("messages_ready", 0))


async def test_a_paused_service_takes_nothing_and_says_so_until_it_is_resumed(
    service: RunningService, wire: Wire, settings: BrokerSettings
) -> None:
    await tell(wire, action="pause")
    await eventually(lambda: service.answers("/readyz", 503), expecting="a service that is not ready")
    assert (await service.http.get("/readyz")).json()["problems"] == ["paused by an operator"]

    placed = order_placed()
    wire.send(placed)
    await eventually(lambda: waiting(settings), 20, expecting="the message to wait in its queue")
    assert (await service.http.get(f"/payments/{placed.subject}")).status_code == 404

    await tell(wire, action="resume")
    await is_charged(wire, placed.subject)
    await eventually(lambda: service.answers("/readyz", 200), expecting="a service that is ready")


async def test_a_pause_outlives_the_connection(service: RunningService, wire: Wire, settings: BrokerSettings) -> None:
    async def opened() -> float:
        return await service.metric("broker_connections_opened_total", connection=f"{SERVICE} consumer")

    before = await opened()
    await tell(wire, action="pause")
    await eventually(lambda: service.answers("/readyz", 503), expecting="a service that is not ready")
    await close_connection(settings, f"{SERVICE} consumer")

    async def is_connected_again() -> bool:
        problems = (await service.http.get("/readyz")).json()["problems"]
        return await opened() > before and problems == ["paused by an operator"]

    await eventually(is_connected_again, 20, "another connection")
    placed = order_placed()
    wire.send(placed)
    await eventually(lambda: waiting(settings), 20, expecting="the message to wait in its queue")
    await tell(wire, action="resume")
    await is_charged(wire, placed.subject)


async def test_a_slowed_service_waits_before_each_delivery(service: RunningService, wire: Wire) -> None:
    await tell(wire, action="slow", delay_seconds=1.5)
    await eventually(lambda: service.metric("slowed_seconds"), expecting="a service that is slow")
    placed = order_placed()
    loop = asyncio.get_running_loop()

    started = loop.time()
    wire.send(placed)
    await is_charged(wire, placed.subject)
    assert loop.time() - started >= 1.5

    await tell(wire, action="slow", delay_seconds=0)
    await eventually(lambda: is_back(service), expecting="a service at its usual speed")
    started = loop.time()
    wire.send(placed := order_placed())
    await is_charged(wire, placed.subject)
    assert loop.time() - started < 1.5


async def is_back(service: RunningService) -> bool:
    return await service.metric("slowed_seconds") == 0


@pytest.mark.parametrize(
    "body",
    [
        b"rubbish",
        b"\xff",
        b'{"action": "dance"}',
        b'{"action": "slow", "delay_seconds": -1}',
        b'{"action": "slow", "delay_seconds": NaN}',
        b'{"action": "slow", "delay_seconds": 3600}',
        b'{"action": "pause", "please": true}',
    ],
)
async def test_what_it_does_not_understand_is_dropped(service: RunningService, wire: Wire, body: bytes) -> None:
    await tell(wire, body)
    await tell(wire, action="resume")  # heard after it, so that the other has been heard too
    placed = order_placed()
    wire.send(placed)
    await is_charged(wire, placed.subject)

    assert (await service.http.get("/readyz")).status_code == 200
    assert await service.metric("slowed_seconds") == 0


async def test_killed_each_replica_ends_at_once_and_the_next_process_is_not_killed_again(
    broker: Broker, tmp_path: Path
) -> None:
    async with virtual_host(broker) as plain:
        settings = await with_controls(plain)
        wire = Wire(settings)
        async with (
            running(SERVICE, settings, tmp_path / "first", ends_with=-9, CONTROLS_ENABLED="true") as first,
            running(SERVICE, settings, tmp_path / "second", ends_with=-9, CONTROLS_ENABLED="true") as second,
        ):
            await eventually(lambda: listen(settings, 2), expecting="two replicas that listen")
            await tell(wire, action="kill")
            assert {await first.process.wait(), await second.process.wait()} == {-9}

        async with running(SERVICE, settings, tmp_path / "first", CONTROLS_ENABLED="true") as third:
            await tell(wire, action="pause")
            await eventually(lambda: third.answers("/readyz", 503), expecting="a live service that listens")


async def listen(settings: BrokerSettings, count: int) -> bool:
    async with Management(settings) as management:
        found = await management.find("exchanges", management.vhost, "control", "bindings", "source")
    return len(found) == count


async def test_without_the_setting_nobody_listens(settings: BrokerSettings, tmp_path: Path) -> None:
    async with running("notification_service", settings, tmp_path):
        with pytest.raises(pika.exceptions.UnroutableError):
            Wire(settings).publish("control", "notification_service", b"{}", pika.BasicProperties())


async def test_without_the_setting_there_is_no_such_exchange(module_broker_settings: BrokerSettings) -> None:
    async with Management(module_broker_settings) as management:
        assert await management.find("exchanges", management.vhost, "control") is None
        assert await management.find("exchanges", management.vhost, "orders") is not None

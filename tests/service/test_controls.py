"""A service with CONTROLS_ENABLED carries out the commands of the exchange `control`; another receives none."""

import json
import time
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
from shared.topology import ServiceUser, provision, topology
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
async def service(settings: BrokerSettings, directory: Path) -> AsyncIterator[RunningService]:
    """It connects with the permissions that it has in containers, not as the administrator."""
    user, *_ = topology(lambda _queue: (), controls=True, passwords={SERVICE: "secret"})
    assert isinstance(user, ServiceUser)
    parts = urlsplit(settings.rabbitmq_url)
    url = parts._replace(netloc=f"{USER}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
    own_settings = settings.model_copy(update={"rabbitmq_url": url})
    async with Management(settings) as management:
        await management.put("users", USER, body={"password": "secret", "tags": ""})
        await management.put("permissions", settings.vhost, USER, body=dict(user.permissions))
        async with running(SERVICE, own_settings, directory, CONTROLS_ENABLED="true") as service:
            yield service
        await management.delete("users", USER)


@pytest_asyncio.fixture(scope="module")
async def wire(settings: BrokerSettings) -> AsyncIterator[Wire]:
    async with Wire.open(settings) as wire:
        yield wire


async def with_controls(plain: BrokerSettings) -> BrokerSettings:
    settings = plain.model_copy(update={"controls_enabled": True})
    await provision.apply(settings)
    return settings


async def send(wire: Wire, body: bytes = b"", **command: object) -> None:
    """Send the service a command, once it listens."""

    def is_routed() -> bool:
        try:
            wire.publish("control", SERVICE, body or json.dumps(command).encode(), pika.BasicProperties())
        except pika.exceptions.UnroutableError:
            return False
        return True

    await eventually(is_routed, expecting="the service to listen")


async def seconds_until_charged(wire: Wire) -> float:
    """How long it takes until a new order is charged."""
    started = time.monotonic()
    wire.send(placed := order_placed())
    await wire.event("payments", placed.subject, "payment.succeeded.v1")
    return time.monotonic() - started


async def is_paused(service: RunningService) -> bool:
    answer = await service.answers("/readyz", 503)
    return answer is not None and answer.json()["problems"] == ["paused by an operator"]


async def test_a_paused_service_takes_nothing_also_on_a_new_connection_until_it_is_resumed(
    service: RunningService, wire: Wire, settings: BrokerSettings
) -> None:
    async def opened() -> float:
        return await service.metric("broker_connections_opened", connection=f"{SERVICE} consumer")

    before = await opened()
    await send(wire, action="pause")
    await eventually(lambda: is_paused(service), expecting="a paused service")
    await close_connection(settings, f"{SERVICE} consumer")

    async def is_connected_again() -> bool:
        return await opened() > before and await is_paused(service)

    await eventually(is_connected_again, 20, "another connection")
    wire.send(placed := order_placed())

    async def waits() -> bool:
        async with Management(settings) as management:
            found = await management.find("queues", management.vhost, CHARGE)
        return int(found.get("messages_ready", 0)) > 0

    await eventually(waits, 20, expecting="the message to wait in its queue")
    assert (await service.http.get(f"/payments/{placed.subject}")).status_code == 404
    await send(wire, action="resume")
    await wire.event("payments", placed.subject, "payment.succeeded.v1")


async def test_a_slowed_service_waits_before_each_delivery(service: RunningService, wire: Wire) -> None:
    async def is_back() -> bool:
        return await service.metric("slowed_seconds") == 0

    await send(wire, action="slow", delay_seconds=1.5)
    await eventually(lambda: service.metric("slowed_seconds"), expecting="a slow service")
    assert await seconds_until_charged(wire) >= 1.5

    await send(wire, action="slow", delay_seconds=0)
    await eventually(is_back, expecting="a service at its usual speed")
    assert await seconds_until_charged(wire) < 1.5


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
async def test_a_command_that_is_not_understood_is_dropped(service: RunningService, wire: Wire, body: bytes) -> None:
    await send(wire, body)
    await send(wire, action="resume")  # it arrives after the other
    await seconds_until_charged(wire)

    assert (await service.http.get("/readyz")).status_code == 200
    assert await service.metric("slowed_seconds") == 0


async def test_a_kill_ends_each_replica_at_once_and_not_the_next_process(broker: Broker, tmp_path: Path) -> None:
    async with virtual_host(broker) as plain:
        settings = await with_controls(plain)
        wire = Wire(settings)

        async def both_listen() -> bool:
            async with Management(settings) as management:
                bindings = await management.find("exchanges", management.vhost, "control", "bindings", "source")
            return len(bindings) == 2

        async with (
            running(SERVICE, settings, tmp_path / "first", ends_with=-9, CONTROLS_ENABLED="true") as first,
            running(SERVICE, settings, tmp_path / "second", ends_with=-9, CONTROLS_ENABLED="true") as second,
        ):
            await eventually(both_listen, expecting="two replicas that listen")
            await send(wire, action="kill")
            assert {await first.process.wait(), await second.process.wait()} == {-9}

        async with running(SERVICE, settings, tmp_path / "first", CONTROLS_ENABLED="true") as third:
            await send(wire, action="pause")
            await eventually(lambda: is_paused(third), expecting="a live service that listens")


async def test_without_the_setting_no_service_listens(settings: BrokerSettings, tmp_path: Path) -> None:
    async with running("notification_service", settings, tmp_path):
        with pytest.raises(pika.exceptions.UnroutableError):
            Wire(settings).publish("control", "notification_service", b"{}", pika.BasicProperties())

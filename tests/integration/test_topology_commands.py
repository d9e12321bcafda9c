"""`order-rail topology apply|keep|show`, as a person or a container runs them."""

import asyncio
import os
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from shared.management import Management
from shared.settings import BrokerSettings
from tests.conftest import Broker
from tests.support import addresses_of, eventually

TRACK = "order_service.track"
ORDER_RAIL = (sys.executable, "-c", "from control_room.cli import app; app()", "topology")


@pytest_asyncio.fixture
async def settings(broker: Broker) -> AsyncIterator[BrokerSettings]:
    """A virtual host that does not exist yet."""
    vhost = f"commands-{uuid.uuid4().hex[:8]}"
    settings = BrokerSettings(rabbitmq_url=broker.amqp_url(vhost), rabbitmq_management_url=broker.management_url)
    yield settings
    async with Management(settings) as management:
        await management.delete("vhosts", vhost)


async def start(settings: BrokerSettings, *arguments: str, **environment: str) -> Process:
    variables = {**os.environ, **addresses_of(settings), **environment}
    return await asyncio.create_subprocess_exec(*ORDER_RAIL, *arguments, env=variables, stdout=PIPE, stderr=PIPE)


async def run(settings: BrokerSettings, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Exit status, output and error output."""
    process = await start(settings, *arguments, **environment)
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_show_fails_until_everything_is_there_as_it_should_be(
    settings: BrokerSettings,
) -> None:
    status, output, _ = await run(settings, "show")
    assert status == 1
    assert "missing" in output

    status, output, _ = await run(settings, "apply")
    assert status == 0
    created = ["queue order_service.track", "queue order_service.track.retry.30s", f"virtual host {settings.vhost}"]
    created.append("binding orders --order.placed.*--> payment_service.charge")
    assert {f"created {item}" for item in created} <= set(output.splitlines())
    assert await run(settings, "apply") == (0, "nothing to do\n", "")

    status, output, _ = await run(settings, "show")
    assert (status, "missing" in output) == (0, False)

    async with Management(settings) as management:
        await management.delete("queues", settings.vhost, TRACK)
        await management.put("queues", settings.vhost, TRACK, body={"durable": True})
    status, output, _ = await run(settings, "show")
    assert (status, "x-queue-type is 'classic', not 'quorum'" in output) == (1, True)
    status, _, errors = await run(settings, "apply")
    assert (status, f"queue {TRACK}: x-queue-type should be 'quorum' and is 'classic'" in errors) == (1, True)
    assert "Traceback" not in errors


async def test_keep_says_when_it_is_ready_and_ends_in_order(settings: BrokerSettings, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()  # left behind by a run that was killed
    process = await start(settings, "keep", "--ready-file", str(ready), "--interval-seconds", "0.1")
    async with Management(settings) as management:
        await eventually(lambda: management.find("queues", settings.vhost, f"{TRACK}.dead"), 60)
        await eventually(ready.exists, 60, "the topology to be in place")
        await management.delete("queues", settings.vhost, TRACK)
        await eventually(lambda: management.find("queues", settings.vhost, TRACK))

    process.send_signal(signal.SIGTERM)
    output, errors = await process.communicate()

    assert process.returncode == 0, errors.decode()
    assert "topology.put_in_place" in output.decode()
    assert not ready.exists()


@pytest.mark.parametrize(
    ("command", "url", "expected"),
    [
        ("apply --wait-seconds 0.1", "http://guest:secret@127.0.0.1:1", "http://127.0.0.1:1 can't be used"),
        ("show", "http://guest:secret@127.0.0.1:1", "http://127.0.0.1:1 can't be used"),
        ("show", "http://guest:secret@127.0.0.1:{amqp_port}", "can't be used"),
        ("show", "http://nobody:secret@127.0.0.1:{management_port}", "denied GET vhosts"),
        ("apply", "amqp://here", "RABBITMQ_MANAGEMENT_URL"),
        ("keep", "http://host:port", "RABBITMQ_MANAGEMENT_URL"),
        ("show", "nonsense", "RABBITMQ_MANAGEMENT_URL"),
    ],
)
async def test_a_url_that_can_not_be_used_is_said_at_once_without_its_password(
    settings: BrokerSettings, command: str, url: str, expected: str
) -> None:
    ports = {"amqp_port": settings.amqp[0].port, "management_port": urlsplit(settings.management_url).port}

    status, _, errors = await run(settings, *command.split(), RABBITMQ_MANAGEMENT_URL=url.format(**ports))

    assert status in (1, 2)
    assert expected in errors
    assert "secret" not in errors
    assert errors.count("\n") == 1

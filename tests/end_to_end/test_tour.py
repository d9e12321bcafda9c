"""`order-rail tour` on a real system: green when all of it holds, red with the reason when not."""

import asyncio
import os
import re
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from control_room.experiments.tour.steps import STEPS
from control_room.launcher.system import System, launch
from shared.management import Management
from tests.conftest import Broker
from tests.support import eventually

ORDER_RAIL = (sys.executable, "-c", "from control_room.cli import app; app()", "tour")
OURS = ("RABBITMQ_", "ORDER_SERVICE_", "PAYMENT_SERVICE_", "NOTIFICATION_SERVICE_", "OPERATOR_TOKEN")


@asynccontextmanager
async def launched(broker: Broker, directory: Path, **environment: str) -> AsyncIterator[System]:
    """A system on the session's broker, in a virtual host of its own, with short retry delays."""
    variables = {**broker_variables(broker), "RETRY_DELAYS_SECONDS": "0.2,0.4,0.6", **environment}
    async with launch(directory, environment=variables) as system:
        yield system
    async with Management(system.broker_settings) as management:
        await management.delete("vhosts", system.broker_settings.vhost)


def broker_variables(broker: Broker) -> dict[str, str]:
    vhost = f"tour-{uuid.uuid4().hex[:8]}"
    return {"RABBITMQ_URL": broker.amqp_url(vhost), "RABBITMQ_MANAGEMENT_URL": broker.management_url}


async def tour(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int | None, str]:
    """Exit status and output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    variables = {**inherited, **(environment or {})}
    process = await asyncio.create_subprocess_exec(*ORDER_RAIL, *arguments, env=variables, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def all_are_placed(system: System) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{system.environment['ORDER_SERVICE_URL']}/orders")
    return len(answer.json()["orders"]) == len(STEPS)


def file_of(system: System) -> tuple[str, str]:
    return "--environment-file", str(system.run.environment_file)


async def test_the_tour_holds_and_leaves_no_queue_behind(system: System) -> None:
    status, output = await tour(*file_of(system))

    assert status == 0, output
    assert output.count("│ right │") == len(STEPS)
    assert "WRONG" not in output
    assert "All of it held." in output
    async with Management(system.broker_settings) as management:
        queues = await management.find("queues", management.vhost)
    assert not [queue["name"] for queue in queues if "tap" in queue["name"]]


async def test_a_wrong_operator_token_in_the_environment_is_said_to_be_wrong(system: System) -> None:
    status, output = await tour(environment={**system.environment, "OPERATOR_TOKEN": "wrong"})

    assert status == 1, output
    assert "the audit was not possible: order_service: it refused the operator's token" in output
    assert "OPERATOR_TOKEN" in output
    assert "Traceback" not in output


async def test_a_service_that_does_not_answer_is_named(system: System) -> None:
    nowhere = {**system.environment, "PAYMENT_SERVICE_URL": "http://127.0.0.1:1"}

    status, output = await tour("--wait-seconds", "0.1", environment=nowhere)

    assert status == 1, output
    assert "payment_service does not answer at http://127.0.0.1:1" in output
    assert "order-rail up" in output


async def test_the_tour_goes_red_when_notifications_stop(broker: Broker, tmp_path: Path) -> None:
    async with launched(broker, tmp_path, GATEWAY_LATENCY_SECONDS="1") as system:
        process_id = int(system.environment["NOTIFICATION_SERVICE_PID"])
        touring = asyncio.create_task(tour("--deadline-seconds", "4", *file_of(system)))
        await eventually(lambda: all_are_placed(system), 30, "all orders to be placed, and none charged yet")
        os.kill(process_id, signal.SIGSTOP)
        try:
            status, output = await touring
        finally:
            os.kill(process_id, signal.SIGCONT)

    assert status == 1, output
    assert re.search(r"WRONG duplicates \(order [0-9a-f-]{36}\): still paid after 4 s", output), output
    assert "the audit was not possible: notification_service: it was silent for 4 s" in output
    assert "All of it held" not in output


async def test_the_tour_goes_red_when_the_gateway_is_too_slow(broker: Broker, tmp_path: Path) -> None:
    async with launched(broker, tmp_path, GATEWAY_LATENCY_SECONDS="60") as system:
        status, output = await tour("--deadline-seconds", "2", *file_of(system))

    assert status == 1, output
    assert "normal (order" in output
    assert "still placed after 2 s" in output
    assert "one-final-state: still placed" in output


async def test_without_a_system_the_tour_says_how_to_start_one(tmp_path: Path) -> None:
    status, output = await tour("--environment-file", str(tmp_path / "environment"))

    assert status == 1, output
    assert "order-rail up" in output
    assert "make demo" in output


async def test_an_environment_file_without_addresses_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("SOMETHING=else\n")

    status, output = await tour("--environment-file", str(file))

    assert status == 1, output
    assert "ORDER_SERVICE_URL: Field required" in output


async def test_the_tour_can_run_a_system_of_its_own(broker: Broker, tmp_path: Path) -> None:
    own = {**broker_variables(broker), "RETRY_DELAYS_SECONDS": "0.2", "TMPDIR": str(tmp_path)}

    status, output = await tour("--start", environment=own)

    assert status == 0, output
    assert list(tmp_path.iterdir()) == []  # nothing is left of it

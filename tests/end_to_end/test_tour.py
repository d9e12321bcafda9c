"""`order-rail tour` on a real system: green when all of it holds, red with the reason when not."""

import asyncio
import os
import re
import signal
from pathlib import Path

import httpx

from control_room.experiments.tour.steps import STEPS
from control_room.launcher.system import System
from tests.conftest import Broker
from tests.order_rail import file_of, launched, order_rail
from tests.support import eventually


async def all_are_placed(system: System) -> bool:
    headers = {"Authorization": f"Bearer {system.operator_token}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
        answer = await http.get(f"{system.url('order_service')}/orders")
    return len(answer.json()["orders"]) == len(STEPS)


async def test_a_wrong_operator_token_in_the_environment_is_said_to_be_wrong(system: System) -> None:
    ended = await order_rail("tour", **{**system.environment, "OPERATOR_TOKEN": "wrong"})

    assert ended.status == 1, ended.output
    assert "the audit was not possible: order_service: it refused the operator's token" in ended.output
    assert "OPERATOR_TOKEN" in ended.output
    assert "Traceback" not in ended.output + ended.errors


async def test_a_service_that_does_not_answer_is_named(system: System) -> None:
    nowhere = {**system.environment, "PAYMENT_SERVICE_URL": "http://127.0.0.1:1"}

    ended = await order_rail("tour", "--wait-seconds", "0.1", **nowhere)

    assert ended.status == 1, ended.output
    assert "payment_service does not answer at http://127.0.0.1:1" in ended.output
    assert "order-rail up" in ended.output


async def test_the_tour_goes_red_when_notifications_stop(broker: Broker, tmp_path: Path) -> None:
    async with launched(broker, tmp_path, GATEWAY_LATENCY_SECONDS="2") as system:
        process_id = system.processes["notification_service"].pid
        touring = asyncio.create_task(order_rail("tour", "--deadline-seconds", "8", *file_of(system)))
        await eventually(lambda: all_are_placed(system), 60, "all orders to be placed")
        os.kill(process_id, signal.SIGSTOP)
        try:
            ended = await touring
        finally:
            os.kill(process_id, signal.SIGCONT)

    assert ended.status == 1, ended.output
    assert re.search(r"WRONG duplicates \(order [0-9a-f-]{36}\): still paid after 8 s", ended.output), ended.output
    assert "the audit was not possible: notification_service: it was silent for 8 s" in ended.output
    assert "All of it held" not in ended.output


async def test_the_tour_goes_red_when_the_gateway_is_too_slow(broker: Broker, tmp_path: Path) -> None:
    async with launched(broker, tmp_path, GATEWAY_LATENCY_SECONDS="60") as system:
        ended = await order_rail("tour", "--deadline-seconds", "2", *file_of(system))

    assert ended.status == 1, ended.output
    for sentence in ("normal (order", "still placed after 2 s", "one-final-state: still placed"):
        assert sentence in ended.output


async def test_without_a_system_the_tour_says_how_to_start_one(tmp_path: Path) -> None:
    ended = await order_rail("tour", "--environment-file", str(tmp_path / "environment"))

    assert ended.status == 1, ended.output
    assert "order-rail up" in ended.output
    assert "make demo" in ended.output


async def test_an_environment_file_without_addresses_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("SOMETHING=else\n")

    ended = await order_rail("tour", "--environment-file", str(file))

    assert ended.status == 1, ended.output
    assert "ORDER_SERVICE_URL: Field required" in ended.output


async def test_the_tour_holds_on_a_system_of_its_own(broker: Broker, tmp_path: Path) -> None:
    ended = await order_rail(
        "tour", "--start",
        RABBITMQ_URL=broker.amqp_url(f"tour-{tmp_path.name}"), RABBITMQ_MANAGEMENT_URL=broker.management_url,
        RETRY_DELAYS_SECONDS="0.2", TMPDIR=str(tmp_path),
    )  # fmt: skip

    assert ended.status == 0, ended.output
    assert ended.output.count("│ right │") == len(STEPS)
    assert "WRONG" not in ended.output
    assert "All of it held." in ended.output
    assert list(tmp_path.iterdir()) == []  # the run directory is removed

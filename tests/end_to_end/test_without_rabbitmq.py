"""A machine, such as a container of ours, without RabbitMQ: commands that need a broker of their own say so."""

from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.order_rail import CODE, Ended, end_of, file_of, launched, order_rail, start

WITHOUT_RABBITMQ = f"""
from control_room.launcher import installed
installed.SERVER_FOLDERS = installed.ERLANG_FOLDERS = ("/nowhere",)
{CODE}
"""


async def order_rail_without_rabbitmq(*arguments: str, **environment: str) -> Ended:
    return await end_of(await start(*arguments, code=WITHOUT_RABBITMQ, PATH="/nowhere", **environment))


@pytest.mark.parametrize(
    ("command", "instead"),
    [
        (("chaos", "--minutes", "0.1"), ["make chaos", "docker compose kill"]),
        (("flash-sale", "--orders", "1", "--seconds", "1"), ["--running"]),
    ],
)
async def test_what_needs_a_broker_of_its_own_says_what_to_use_instead(
    command: tuple[str, ...], instead: list[str], broker: Broker, tmp_path: Path
) -> None:
    where = {"RABBITMQ_URL": broker.amqp_url(), "RABBITMQ_MANAGEMENT_URL": broker.management_url}
    ended = await order_rail_without_rabbitmq(*command, "--run-directory", str(tmp_path / "run"), **where)
    assert ended.status == 2
    assert (
        "a RabbitMQ of its own, whatever RABBITMQ_URL names, and rabbitmq-server is not installed here" in ended.output
    )
    assert all(word in ended.output for word in instead)
    assert "or set RABBITMQ_URL" not in ended.output
    assert not list(tmp_path.rglob("*.db"))


async def test_up_says_that_a_broker_may_be_named(tmp_path: Path) -> None:
    ended = await order_rail_without_rabbitmq("up", "--run-directory", str(tmp_path / "run"), RABBITMQ_URL="")
    assert ended.status == 1
    assert "or set RABBITMQ_URL and RABBITMQ_MANAGEMENT_URL" in ended.output


async def test_a_report_that_lies_in_a_container_is_told_how_to_be_had(broker: Broker, tmp_path: Path) -> None:
    async with launched(broker, tmp_path / "system") as system:
        directory = tmp_path / "sale"
        sale = ("--running", "--orders", "5", "--seconds", "1", "--run-directory", str(directory))
        copy = "docker compose cp control_room:{} ."
        ended = await order_rail("flash-sale", *sale, *file_of(system), COPY_OUT_COMMAND=copy)
    assert ended.status == 0, ended.output
    assert f"From outside: docker compose cp control_room:{directory} ." in ended.output
    assert (directory / "report.md").exists()

"""The private RabbitMQ node does what the launcher and the fault tests build on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from control_room.launcher.broker import BrokerError, PrivateBroker
from control_room.launcher.ports import is_free
from shared.management import Management, ManagementError
from shared.settings import BrokerSettings
from tests.support import eventually, is_alive


@asynccontextmanager
async def management_of(node: PrivateBroker) -> AsyncIterator[Management]:
    settings = BrokerSettings(rabbitmq_url=node.amqp_url(), rabbitmq_management_url=node.management_url)
    async with Management(settings) as management:
        yield management


async def management_answers(node: PrivateBroker, timeout_seconds: float = 5) -> bool:
    with suppress(ManagementError, TimeoutError):
        async with management_of(node) as management, asyncio.timeout(timeout_seconds):
            return bool(await management.find("overview"))
    return False


async def test_a_killed_node_comes_back_on_the_same_ports_with_its_data(breakable_broker: PrivateBroker) -> None:
    async with management_of(breakable_broker) as management:
        await management.put("vhosts", "kept", body={})
    before = psutil.Process(breakable_broker.pid)
    await breakable_broker.kill()
    assert not is_alive(before)
    assert is_free(breakable_broker.amqp_port)
    await breakable_broker.start()
    assert breakable_broker.pid != before.pid
    async with management_of(breakable_broker) as management:
        assert await management.find("vhosts", "kept")


async def test_a_frozen_node_answers_nothing_until_it_is_resumed(breakable_broker: PrivateBroker) -> None:
    breakable_broker.suspend()
    try:
        assert not await management_answers(breakable_broker, timeout_seconds=0.5)
    finally:
        breakable_broker.resume()
    await eventually(lambda: management_answers(breakable_broker), expecting="an answer after resume")


async def test_everything_listens_on_loopback_only(breakable_broker: PrivateBroker) -> None:
    epmd = breakable_broker._home.epmd
    assert epmd is not None
    listening = {
        connection.laddr.ip
        for pid in (breakable_broker.pid, epmd.pid)
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert "127.0.0.1" in listening
    assert listening <= {"127.0.0.1", "::1"}


async def test_the_cookie_is_private(breakable_broker: PrivateBroker) -> None:
    cookie = breakable_broker.directory / ".erlang.cookie"
    assert cookie.stat().st_mode & 0o777 == 0o600
    assert len(cookie.read_text()) >= 40


async def test_two_nodes_run_side_by_side_and_nothing_stays_behind(
    breakable_broker: PrivateBroker, tmp_path: Path
) -> None:
    async with PrivateBroker(tmp_path / 'a "folder" with $igns #1 %41 ü') as node:
        family = psutil.Process(node.pid).children(recursive=True)
        processes = [psutil.Process(node.pid), psutil.Process(node._home.epmd.pid), *family]  # type: ignore[union-attr]  # it runs
        assert await management_answers(node)
        assert await management_answers(breakable_broker)
    await eventually(lambda: not any(map(is_alive, processes)), expecting="no process left")
    assert is_free(node.amqp_port)
    assert is_free(node.management_port)


async def test_a_taken_port_is_refused_before_anything_starts(breakable_broker: PrivateBroker, tmp_path: Path) -> None:
    node = PrivateBroker(tmp_path, amqp_port=breakable_broker.amqp_port)
    with pytest.raises(BrokerError, match=f"TCP port {breakable_broker.amqp_port}, for AMQP, is taken"):
        await node.start()
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_that_a_node_would_hang_in_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="choose a directory without '"):
        await PrivateBroker(tmp_path / "it's").start()
    assert list(tmp_path.iterdir()) == []


async def test_a_start_that_fails_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    node = PrivateBroker(tmp_path)
    (tmp_path / ".erlang.cookie").touch(mode=0o644)
    with pytest.raises(BrokerError, match="did not start: the node ended with status 1") as failure:
        await node.start()
    assert "must be accessible by owner only" in str(failure.value)
    assert is_free(node._home.epmd_port)
    with pytest.raises(BrokerError, match="not running"):
        _ = node.pid

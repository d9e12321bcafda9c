"""RABBITMQ_URL and RABBITMQ_MANAGEMENT_URL list nodes: where one does not answer, the next is tried, by itself.

The nodes here are proxies to the session's broker, and ports where nothing or nobody answers.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from control_room.experiments.chaos.proxy import Proxy, proxy_to
from control_room.launcher.ports import free_ports
from shared import management as management_module
from shared.contract import EVENTS
from shared.ids import new_id
from shared.management import Management, ManagementError, ManagementUnavailable
from shared.messaging import connection as connection_module
from shared.messaging import publisher as publisher_module
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection, connected
from shared.messaging.message import Message
from shared.messaging.publisher import Publisher
from shared.observability import metrics
from shared.settings import BrokerSettings
from shared.topology.provision import apply, difference, keep
from tests.conftest import Broker
from tests.support import eventually, metric, ready


@dataclass
class Nodes:
    """Ways to one broker, each a node to its clients. `settings` list them all."""

    proxies: dict[str, Proxy]
    settings: BrokerSettings

    def used_by(self, name: str) -> str:
        """The node to which a component is connected; empty if to none."""
        page = metrics.render().decode()
        return next((node for node in self.proxies if metric(page, "broker_connected", connection=name, node=node)), "")


@pytest_asyncio.fixture
async def nodes(module_broker_settings: BrokerSettings) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        proxies, urls = {}, []
        for _ in range(3):
            proxy, url = await stack.enter_async_context(proxy_to(module_broker_settings.rabbitmq_url))
            proxies[urlsplit(url).netloc.rpartition("@")[2]] = proxy
            urls.append(url)
        several = module_broker_settings.model_copy(update={"rabbitmq_url": ",".join(urls)})
        yield Nodes(proxies, several)


class Node:
    """What listens in place of a node: it says nothing, as one that is paused. `connections`: how many it got."""

    port: int
    connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.read()
        writer.close()

    def before(self, settings: BrokerSettings) -> BrokerSettings:
        """The settings, with this one's management API before that of the real node."""
        urls = f"http://guest:guest@127.0.0.1:{self.port},{settings.management_url}"
        return settings.model_copy(update={"rabbitmq_management_url": urls})


class StartingNode(Node):
    """Its management API knows nothing yet."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        writer.close()


@asynccontextmanager
async def listening(node: Node) -> AsyncIterator[Node]:
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        server.close()


def message() -> Message:
    return Message(exchange="orders", routing_key="order.placed.v1", body=b"{}", message_id="1", type="order.placed.v1")


async def test_clients_spread_over_the_nodes(nodes: Nodes) -> None:
    used = set()
    for _ in range(40):
        async with connected(nodes.settings.rabbitmq_url, "test") as connection:
            used.add(connection.node)
    assert used == set(nodes.proxies)


async def test_a_port_where_nothing_listens_is_passed_over(module_broker_settings: BrokerSettings) -> None:
    dead = ",".join(f"amqp://guest:guest@127.0.0.1:{port}/{module_broker_settings.vhost}" for port in free_ports(2))
    for _ in range(5):
        async with connected(f"{dead},{module_broker_settings.rabbitmq_url}", "test") as connection:
            assert connection.node == urlsplit(module_broker_settings.rabbitmq_url).netloc.rpartition("@")[2]


async def test_a_node_that_accepts_and_says_nothing_is_passed_over_after_its_share_of_the_time(
    module_broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "OPEN_TIMEOUT_SECONDS", 3.0)
    monkeypatch.setattr("shared.messaging.connection.random.shuffle", lambda _urls: None)
    async with listening(Node()) as silent:
        first = f"amqp://guest:guest@127.0.0.1:{silent.port}/{module_broker_settings.vhost}"
        began = time.monotonic()
        async with connected(f"{first},{module_broker_settings.rabbitmq_url}", "test"):
            assert time.monotonic() - began >= 1.4
            assert silent.connections == 1
        async with connected(f"{first},{module_broker_settings.rabbitmq_url}", "another"):
            assert silent.connections == 1  # known by now to say nothing


async def test_where_no_node_answers_each_is_named_and_no_password_is_shown() -> None:
    ports = free_ports(2)
    urls = ",".join(f"amqp://ada:s3cret@127.0.0.1:{port}/" for port in ports)
    with pytest.raises(BrokerUnavailable) as refused:
        await Connection.open(urls, "test")
    assert all(f"127.0.0.1:{port}: " in str(refused.value) for port in ports)
    assert "s3cret" not in str(refused.value)


async def test_a_publisher_whose_node_goes_away_uses_another_at_once(nodes: Nodes) -> None:
    with capture_logs() as logs:
        async with ready(Publisher(nodes.settings.rabbitmq_url, "leaves", exchanges=["orders"])) as publisher:
            first = nodes.used_by("leaves publisher")
            nodes.proxies[first].close()

            second = await eventually(
                lambda: nodes.used_by("leaves publisher") not in ("", first) and nodes.used_by("leaves publisher")
            )
            await eventually(lambda: publisher.is_connected)
            await publisher.publish(message())
    assert [each["node"] for each in logs if each["event"] == "broker.connected"] == [first, second]
    assert not nodes.used_by("leaves publisher")


async def test_a_publisher_that_waits_for_confirms_in_vain_goes_to_another_node(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "CONFIRM_TIMEOUT_SECONDS", 2.0)
    async with ready(Publisher(nodes.settings.rabbitmq_url, "waits", exchanges=["orders"])) as publisher:
        first = nodes.used_by("waits publisher")
        nodes.proxies[first].blackhole()
        (error,) = await publisher.publish_all([message()])
        assert error is not None

        await eventually(lambda: publisher.is_connected)
        await publisher.publish(message())
        assert nodes.used_by("waits publisher") not in ("", first)


@pytest.mark.parametrize("seconds", [1, 2])
async def test_a_node_that_says_nothing_is_lost_after_two_heartbeats(nodes: Nodes, seconds: int) -> None:
    urls = ",".join(f"{url}?heartbeat={seconds}" for url in nodes.settings.rabbitmq_url.split(","))
    async with connected(urls, "test") as connection:
        await asyncio.wait([connection.closed], timeout=3 * seconds)
        assert not connection.closed.done()
        nodes.proxies[connection.node].blackhole()
        await asyncio.wait([connection.closed], timeout=2.5 * seconds)
        assert "heartbeats" in str(connection.closed.result())


async def test_nodes_of_a_cluster_are_expected_to_say_something_sooner_than_a_single_one(nodes: Nodes) -> None:
    first, *_ = nodes.settings.rabbitmq_url.split(",")
    async with connected(nodes.settings.rabbitmq_url, "test") as of_several, connected(first, "test") as single:
        assert (of_several._pika.params.heartbeat, single._pika.params.heartbeat) == (5, 20)


async def test_the_first_queues_wait_for_every_node_and_a_later_one_does_not(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    vhost = f"test-{new_id()}"
    settings = BrokerSettings(
        rabbitmq_url=broker.amqp_url(vhost),
        rabbitmq_management_url=",".join([broker.management_url] * 2),
        events_kept_hours=1,
    )
    queues_when_asked: list[object] = []
    find = Management.find

    async def second_node_comes_late(self: Management, *path: str, **query: str) -> object:
        if path != ("nodes",):
            return await find(self, *path, **query)
        queues_when_asked.append(await find(self, "queues", vhost))
        return [{"running": True}, {"running": len(queues_when_asked) == 2}]

    monkeypatch.setattr(Management, "find", second_node_comes_late)
    async with Management(settings) as management:
        assert f"queue {EVENTS}" in await apply(settings)
        assert queues_when_asked == [None, None]
        await management.delete("queues", vhost, EVENTS)
        assert f"queue {EVENTS}" in await apply(settings)
        assert len(queues_when_asked) == 2
        await management.delete("vhosts", vhost)


async def test_the_management_apis_are_tried_in_turn(module_broker_settings: BrokerSettings) -> None:
    (dead,) = free_ports(1)
    urls = f"http://guest:guest@127.0.0.1:{dead},{module_broker_settings.management_url}"
    settings = module_broker_settings.model_copy(update={"rabbitmq_management_url": urls})
    assert not (await difference(settings)).missing
    applied = asyncio.Event()
    keeping = asyncio.create_task(keep(settings, on_applied=applied.set))
    async with asyncio.timeout(10):
        await applied.wait()
    keeping.cancel()
    async with Management(settings) as management:
        await management.delete("queues", management.vhost, "no-such-queue")
        assert await management.find("overview")


async def test_a_management_api_that_says_nothing_is_passed_over_and_asked_last_from_then_on(
    module_broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management_module, "TIMEOUT_SECONDS", 2.0)
    async with listening(Node()) as silent, Management(silent.before(module_broker_settings)) as management:
        for _ in range(2):
            assert await management.find("overview")
            assert silent.connections == 1


async def test_a_node_that_knows_nothing_yet_is_not_believed(module_broker_settings: BrokerSettings) -> None:
    async with listening(StartingNode()) as starting:
        settings = starting.before(module_broker_settings)
        assert not (await difference(settings)).missing
        async with Management(settings) as management:
            await management.put("exchanges", management.vhost, "late", body={"type": "topic", "durable": True})
            assert await management.find("exchanges", management.vhost, "late")
            await management.delete("exchanges", management.vhost, "late")
            assert await management.find("exchanges", management.vhost, "late") is None
            with pytest.raises(ManagementError, match="refused PUT vhosts x y"):
                await management.put("vhosts", "x", "y", body={})


async def test_what_may_have_been_done_is_not_asked_of_another_node(
    module_broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management_module, "TIMEOUT_SECONDS", 1.0)
    async with listening(Node()) as silent, Management(silent.before(module_broker_settings)) as management:
        with pytest.raises(ManagementUnavailable):
            await management.post("exchanges", management.vhost, "amq.default", "publish", body={})


async def test_where_no_management_api_answers_each_is_named_and_no_password_is_shown() -> None:
    ports = free_ports(2)
    urls = ",".join(f"http://ada:s3cret@127.0.0.1:{port}" for port in ports)
    async with Management(BrokerSettings(rabbitmq_management_url=urls)) as management:
        with pytest.raises(ManagementUnavailable) as refused:
            await management.find("overview")
    assert all(f"at http://127.0.0.1:{port} can't be used: " in str(refused.value) for port in ports)
    assert "s3cret" not in str(refused.value)

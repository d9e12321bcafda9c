"""A private RabbitMQ cluster: several nodes on this machine, loopback only, that find each other by their names."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Self

import httpx

from control_room.launcher.broker import ANSWER_TIMEOUT_SECONDS, NO_TLS, POLL_SECONDS, BrokerError, PrivateBroker
from control_room.launcher.erlang import ErlangHome
from shared.waiting import poll

JOIN_TIMEOUT_SECONDS = 60.0
PARTITIONS = "cluster_partition_handling = {partitions}\n"
DISCOVERY = """\
cluster_formation.peer_discovery_backend = classic_config
# the first node looks ten times for the others, which do not run yet
cluster_formation.discovery_retry_interval = 200
"""
MEMBER = "cluster_formation.classic_config.nodes.{number} = {name}\n"


class PrivateCluster:
    """The nodes of one cluster, each in a directory of its own, and what is done to all of them.

    `partitions`: what a node does that loses sight of the others. With `pause_minority` the smaller side stops working;
    a node that was frozen (SIGSTOP) comes back by itself only with `autoheal`.
    """

    def __init__(
        self,
        directory: Path,
        size: int,
        amqp_port: int = 0,
        management_port: int = 0,
        partitions: str = "pause_minority",
    ) -> None:
        """The ports are the first node's, 0 for any free one; the others have free ones."""
        self.directory = directory.absolute()
        self._home = ErlangHome(self.directory)
        names = {number: f"order_rail_{number}@localhost" for number in range(1, size + 1)}
        members = [MEMBER.format(number=number, name=name) for number, name in names.items()]
        lines = "".join([PARTITIONS.format(partitions=partitions), DISCOVERY, *members])
        ports = {1: (amqp_port, management_port)}
        self.nodes = tuple(
            PrivateBroker(
                self.directory / f"node-{number}", *ports.get(number, (0, 0)), lines, name=name, home=self._home
            )
            for number, name in names.items()
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._home.stop()

    def amqp_url(self, vhost: str = "/") -> str:
        """The AMQP URL of a virtual host on each node, separated by commas."""
        return ",".join(node.amqp_url(vhost) for node in self.nodes)

    @property
    def management_url(self) -> str:
        """The URL of each node's management API, separated by commas."""
        return ",".join(node.management_url for node in self.nodes)

    @property
    def pid(self) -> str:
        """The ids of the nodes' processes. BrokerError if one does not run."""
        return ", ".join(str(node.pid) for node in self.nodes)

    async def start(self) -> None:
        """Start the nodes that don't run, and wait until they are one cluster. BrokerError; then none of them runs."""
        try:
            await self._home.start()
            if not self.nodes[0].has_data:
                await self.nodes[0].start()  # alone at first: of new ones two could each found a cluster
            await _each(self.nodes, PrivateBroker.start)  # any of the old ones may wait for one that stopped after it
            await self.until_whole()
        except BaseException:
            await self.kill()
            await self._home.stop()
            raise

    async def until_whole(self) -> None:
        """Wait until each node says that all of them run. BrokerError after a minute."""

        async def is_whole() -> bool:
            return all([await _running(node) == len(self.nodes) for node in self.nodes])

        if not await poll(is_whole, within_seconds=JOIN_TIMEOUT_SECONDS, every_seconds=POLL_SECONDS):
            raise BrokerError(f"the RabbitMQ nodes in {self.directory} are not one cluster; their logs are there")

    async def stop(self) -> None:
        """Stop all in order, at the same time."""
        await _each(self.nodes, PrivateBroker.stop)

    async def kill(self) -> None:
        """Kill all at once."""
        await _each(self.nodes, PrivateBroker.kill)

    def suspend(self) -> None:
        """SIGSTOP to all."""
        for node in self.nodes:
            node.suspend()

    def resume(self) -> None:
        """SIGCONT to all."""
        for node in self.nodes:
            node.resume()

    async def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl` on each node. Raises BrokerError, NotInstalledError."""
        for node in self.nodes:
            await node.control(*arguments)


async def _each(nodes: Iterable[PrivateBroker], action: Callable[[PrivateBroker], Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(action(node))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _running(node: PrivateBroker) -> int:
    """How many nodes run, as this one knows."""
    try:
        async with httpx.AsyncClient(timeout=ANSWER_TIMEOUT_SECONDS, trust_env=False, verify=NO_TLS) as client:
            answer = await client.get(f"{node.management_url}/api/nodes")
            return sum(each["running"] for each in answer.raise_for_status().json())
    except httpx.HTTPError:
        return 0

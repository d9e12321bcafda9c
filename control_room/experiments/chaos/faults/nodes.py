"""Faults of single nodes of a RabbitMQ cluster. As long as most of them are left, orders go through."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from control_room.experiments.chaos.faults.fault import Injection, fault
from control_room.experiments.chaos.system import Node, NoEvidence, RunningSystem
from control_room.operations.roles import CHARGE

NODES = 3
LEADER, FOLLOWER = "leader", "follower"
ROLES = (LEADER, FOLLOWER)
"""Of a node in the queue of charges."""
GO_ON_SECONDS = 40.0
"""How long the others may take to elect leaders, and the services to go to them."""
WHOLE_SECONDS = 100.0
"""How long a node may take to be one of them again: RabbitMQ 3.10 tells it only once a minute to start anew."""


@fault("node-kill", ROLES, lasts_seconds=(0.5, 3), allowance_seconds=30, nodes=NODES)
async def node_kill(system: RunningSystem, injection: Injection) -> None:
    """SIGKILL to one node of RabbitMQ, and its start."""
    await system.until_node_may_be_killed()
    node = await _node(system, injection.target)
    pid = node.pid
    async with _without(system, injection, node, node.kill, node.start):
        pass
    injection.saw(f"process {pid} is gone, process {node.pid} runs")


@fault("node-freeze", ROLES, lasts_seconds=(0.5, 3), allowance_seconds=35, nodes=NODES)
async def node_freeze(system: RunningSystem, injection: Injection) -> None:
    """SIGSTOP to one node of RabbitMQ until orders go through the others, then SIGCONT."""
    node = await _node(system, injection.target)
    async with _without(system, injection, node, node.suspend, node.resume):
        pass


@fault("node-cut", ROLES, lasts_seconds=(0.5, 3), allowance_seconds=40, nodes=NODES)
async def node_cut(system: RunningSystem, injection: Injection) -> None:
    """One node of RabbitMQ loses the others and its clients; being fewer it pauses, until it sees them again."""
    node = await _node(system, injection.target)
    async with system.cutting(node) as (cut, heal), _without(system, injection, node, cut, heal):
        await system.until(lambda: _is_down(system, node), f"{node.name} to be away, as the others see it")
        injection.saw(f"{node.name} was away for the others")


@fault("most-nodes-kill", ("two nodes",), lasts_seconds=(5, 8), allowance_seconds=30, nodes=NODES)
async def most_nodes_kill(system: RunningSystem, injection: Injection) -> None:
    """SIGKILL to two of three nodes of RabbitMQ: nothing goes through until they are started, and orders are taken."""
    await system.until_node_may_be_killed()
    lost = [await _node(system, role) for role in ROLES]
    before = await system.orders_in_flight()

    async def kill() -> None:
        await asyncio.gather(*(node.kill() for node in lost))

    async def start() -> None:
        await asyncio.gather(*(node.start() for node in lost))

    async with injection.applied(kill, start):
        killed_at = time.monotonic()
        await asyncio.sleep(injection.seconds)
        if system.orders.last_confirmed_at > killed_at:
            raise NoEvidence("an order was confirmed while two of three nodes were away")
        injection.saw(f"{before} when two nodes were killed, {len(system.orders)} after {injection.seconds:.1f} s")
    await _until_whole(system)


@fault("rolling-restart", ("each node",), allowance_seconds=70, nodes=NODES)
async def rolling_restart(system: RunningSystem, injection: Injection) -> None:
    """The nodes of RabbitMQ stopped in order and started, one after the other."""
    await system.until_node_may_be_killed()
    with injection.active():
        for node in system.nodes:
            pid = node.pid
            await node.stop()
            try:
                await _until_one_goes_through(system, time.monotonic())
            finally:
                await node.start()
            await _until_whole(system)
            injection.saw(f"orders went through while {node.name} was away; process {node.pid} is in place of {pid}")


@asynccontextmanager
async def _without(
    system: RunningSystem,
    injection: Injection,
    node: Node,
    stop: Callable[[], Any],
    restore: Callable[[], Any],
) -> AsyncIterator[None]:
    """The node is away while the block runs, and until an order was placed and confirmed without it."""
    injection.saw(f"{await system.orders_in_flight()} when {node.name} went away")
    async with injection.applied(stop, restore):
        seconds = await _until_one_goes_through(system, time.monotonic())
        injection.saw(f"an order went through without it within {seconds:.1f} s")
        if injection.target == LEADER:
            leader = await system.until(
                lambda: _leader(system), "another leader", is_seen=lambda name: name and name != node.name
            )
            injection.saw(f"{leader} became the leader of {CHARGE}")
        await asyncio.sleep(injection.seconds)
        yield
    await _until_whole(system)


async def _until_one_goes_through(system: RunningSystem, since: float) -> float:
    """Wait until an order is confirmed that was placed after `since`; how many seconds that took."""
    await system.until(
        lambda: system.orders.last_confirmed_at > since, "an order that is placed now to be confirmed", GO_ON_SECONDS
    )
    return time.monotonic() - since


async def _until_whole(system: RunningSystem) -> None:
    """Wait until all nodes are in touch, and no queue is one member away from losing its majority.

    What the management API says of a queue's members is up to a minute old on RabbitMQ 4.3.
    """

    async def is_whole() -> bool:
        nodes = await system.client.management.find("nodes") or []
        in_touch = [each for each in nodes if each["running"] and not each["partitions"]]
        health = await system.client.management.find("health", "checks", "node-is-quorum-critical") or {}
        return len(in_touch) == NODES and health.get("status") == "ok"

    await system.until(is_whole, f"{NODES} nodes in touch, and every queue on each", WHOLE_SECONDS)


async def _node(system: RunningSystem, role: str) -> Node:
    """The node that leads the queue of charges, or the first one that follows."""
    leader = await system.until(lambda: _leader(system), f"the leader of {CHARGE}")
    return next(node for node in system.nodes if (node.name == leader) == (role == LEADER))


async def _leader(system: RunningSystem) -> str:
    queue = await system.queue(CHARGE)
    return str((queue or {}).get("leader", ""))


async def _is_down(system: RunningSystem, node: Node) -> bool:
    nodes = await system.client.management.find("nodes") or []
    return any(each["name"] == node.name and not each["running"] for each in nodes)

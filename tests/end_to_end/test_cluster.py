"""Three RabbitMQ nodes: orders are accepted whatever happens to one of them, and nothing that was confirmed is lost."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from control_room.launcher import LaunchError
from control_room.launcher.broker import PrivateBroker
from control_room.launcher.cluster import PrivateCluster
from control_room.launcher.system import System, launch, private_settings
from control_room.operations.environment_file import read_variables
from shared.contract import EVENTS, queues
from shared.management import Management
from tests.conftest import QUICK_RETRIES
from tests.end_to_end.test_chaos_faults import held
from tests.order_rail import file_of, final_audit, order_rail
from tests.rail import Rail
from tests.support import eventually

CHARGE = "payment_service.charge"
ORDERS = ["tok_visa"] * 20
NODE_FAULTS = [
    ("node-kill", "leader", 1.0),
    ("node-kill", "follower", 1.0),
    ("node-freeze", "leader", 1.0),
    ("node-freeze", "follower", 1.0),
    ("node-cut", "leader", 1.0),
    ("node-cut", "follower", 1.0),
    ("most-nodes-kill", "two nodes", 5.0),
    ("rolling-restart", "each node", 0.0),
]

pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture(scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """A system with a cluster of its own, as `order-rail up --nodes 3` starts it."""
    environment = {**private_settings(), **QUICK_RETRIES, "EVENTS_KEPT_HOURS": "1"}
    async with launch(tmp_path_factory.mktemp("cluster"), environment=environment, nodes=3) as running:
        yield running


@pytest_asyncio.fixture
async def rail(system: System) -> AsyncIterator[Rail]:
    async with Rail(system).ready() as client:
        yield client


@pytest_asyncio.fixture
async def management(system: System) -> AsyncIterator[Management]:
    async with Management(system.broker_settings) as client:
        yield client


def cluster_of(system: System) -> PrivateCluster:
    assert isinstance(system.broker, PrivateCluster)
    return system.broker


async def found(management: Management, queue: str) -> dict[str, Any]:
    answer: dict[str, Any] = await management.find("queues", management.vhost, queue)
    return answer


async def leader_of(system: System, management: Management, queue: str = CHARGE) -> PrivateBroker:
    name = await eventually(lambda: _leader(management, queue), 30, "a leader")
    return next(node for node in cluster_of(system).nodes if node.name == name)


async def _leader(management: Management, queue: str) -> str:
    state = await found(management, queue)
    return str(state.get("leader") or state.get("node", ""))  # RabbitMQ 3.10 has no "leader" for a stream at times


async def until_whole(management: Management, queue: str = CHARGE) -> None:
    """A new stream's members are told only with its first statistics, up to five seconds later."""

    async def is_whole() -> bool:
        state = await found(management, queue)
        return len(state.get("online", ())) == len(state.get("members", ())) == 3

    await eventually(is_whole, 60, "three members in touch")


async def test_every_queue_and_the_stream_has_a_member_on_each_node_and_services_know_all_of_them(
    system: System, management: Management, rail: Rail
) -> None:
    names = {node.name for node in cluster_of(system).nodes}
    for name in (*queues(), EVENTS):
        await until_whole(management, name)
        assert set((await found(management, name))["members"]) == names, name

    variables = read_variables(system.run.environment_file)
    assert (
        len(str(variables["RABBITMQ_URL"]).split(",")) == len(str(variables["RABBITMQ_MANAGEMENT_URL"]).split(",")) == 3
    )
    assert {variables[f"RABBITMQ_{number}_PID"] for number in (1, 2, 3)} == {
        str(node.pid) for node in cluster_of(system).nodes
    }


async def test_the_leader_is_killed_and_started_again_and_orders_go_through_meanwhile(
    system: System, management: Management, rail: Rail
) -> None:
    leader = await leader_of(system, management)
    before = await rail.place_many(ORDERS)
    old = psutil.Process(leader.pid)
    os.kill(leader.pid, signal.SIGKILL)
    after = await rail.place_many(ORDERS)
    assert len(before) == len(after) == len(ORDERS)

    await eventually(lambda: leader.is_running and leader.pid != old.pid, 60, "the launcher to start it again")
    await until_whole(management)
    await eventually(lambda: leader.pid in map(int, _pids(system)), 10, "its new id in the environment file")
    await rail.until(before + after, "confirmed")
    await final_audit(system)


async def test_the_stream_of_events_loses_nothing_with_the_node_that_leads_it(
    system: System, management: Management, rail: Rail
) -> None:
    leader = await leader_of(system, management, EVENTS)

    async def another_leads() -> bool:
        return await leader_of(system, management, EVENTS) is not leader

    async def has_all() -> bool:  # the outboxes keep what the stream could not take
        ended = await order_rail("replay", "--from", "first", "--check", *file_of(system))
        assert ended.status == 0, ended.output + ended.errors
        return True

    await leader.kill()  # the launcher leaves it alone
    try:
        placed = await rail.place_many(ORDERS)
        await rail.until(placed, "confirmed")
        await eventually(another_leads, 60, "another node to lead the stream")
        await eventually(has_all, 60, "the stream to have every event")
    finally:
        await leader.start()
    await until_whole(management, EVENTS)


def _pids(system: System) -> list[str]:
    variables = read_variables(system.run.environment_file)
    return [str(variables[f"RABBITMQ_{number}_PID"]) for number in (1, 2, 3)]


async def test_another_number_of_nodes_is_refused_where_there_is_data(system: System, tmp_path: Path) -> None:
    (tmp_path / "rabbitmq").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "rabbitmq" / f"node-{number}").mkdir()
    with pytest.raises(LaunchError, match="holds the data of 3 RabbitMQ nodes"):
        async with launch(tmp_path, environment=private_settings()):
            pass


@pytest.mark.timeout(900)
@pytest.mark.skipif("CLUSTER" not in os.environ, reason="takes seven minutes: set CLUSTER=1")
async def test_each_fault_of_a_node_happens_and_is_recovered_from_and_the_audit_is_clean(tmp_path: Path) -> None:
    report, restarted = await held(NODE_FAULTS, tmp_path, nodes=3)
    assert (report.load.repeated, report.load.unanswered, restarted) == (0, 0, set())

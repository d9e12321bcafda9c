"""A tiny round of the benchmarks: Order Rail and one peer, measured, tabulated, drawn. Its numbers mean nothing."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import pytest

from benchmarks import stage
from benchmarks.bench import QUICK
from benchmarks.contenders import ORDER_RAIL, PEERS, Contender, Query
from benchmarks.databases import SQLITE
from benchmarks.drain import drain
from benchmarks.load.run import place_many
from benchmarks.progress import rows_of
from benchmarks.versions import QUANTITIES
from tests.support import eventually

LONG = pytest.mark.skipif("BENCHMARKS" not in os.environ, reason="takes a minute: set BENCHMARKS=1")
PEER = next(peer for peer in PEERS if peer.name == "faststream")


async def run_benchmarks(*options: str, module: str = "benchmarks") -> tuple[int | None, str]:
    """Exit status and output."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *options, stdout=PIPE, stderr=STDOUT)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def values_of(
    results: dict[str, Any], measurement: str, contender: str, quantity: str, database: str = "sqlite"
) -> list[float]:
    wanted = (measurement, contender, quantity, database)
    keys = ("measurement", "contender", "quantity", "database")
    rows = [row["values"] for row in results["quantities"] if tuple(row[key] for key in keys) == wanted]
    assert len(rows) == 1, f"{wanted}: {len(rows)} rows"
    values: list[float] = rows[0]
    return values


@pytest.mark.skipif(not PEER.is_installed, reason=f"{PEER.title} is in requirements-peers.txt alone")
async def test_a_quick_round_measures_order_rail_and_a_peer_side_by_side(tmp_path: Path) -> None:
    options = ("--quick", "--rounds", "1", "--only", "accept,drain,latency", "--peers", PEER.name)
    status, output = await run_benchmarks(*options, "--output", str(tmp_path))

    assert status == 0, output
    results = json.loads((tmp_path / "results.json").read_text())
    for contender in ("order_rail", PEER.name):
        for measurement, quantity in (("accept", "rate"), ("drain", "handled deliveries"), ("latency", "p50 at 20/s")):
            assert values_of(results, measurement, contender, quantity)[0] > 0
    assert values_of(results, "accept", "fastapi_validates", "rate")[0] > 0
    assert {verdict["goal"] for verdict in results["goals"]} >= {"drain, beside the best peer"}
    assert "| Order Rail | rate (orders/s) |" in (tmp_path / "results.md").read_text()
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(peer, id=peer.name, marks=pytest.mark.skipif(not peer.is_installed, reason=f"no {peer.title}"))
        for peer in PEERS
        if peer.deliveries == ORDER_RAIL.deliveries
    ],
)
async def test_a_peer_that_does_the_same_work_takes_every_order_through_all_steps(
    peer: Contender, tmp_path: Path
) -> None:
    orders = 50
    async with stage.set_up(tmp_path) as servers, servers.scene(peer, SQLITE, quiet_seconds=0) as scene:
        await scene.start_web()
        await place_many(scene, QUICK, orders)
        await scene.start_workers()
        await drain(scene, orders)

        def rows(program: str, table: str) -> int:
            return len(rows_of(scene, Query(program, f"SELECT 1 FROM {table}")))

        await eventually(lambda: rows("web", "timeline") == 3 * orders)
        counts = rows("gateway", "charges"), rows("payments", "payments"), rows("notifications", "notices")
    assert counts == (orders, orders, 2 * orders)


@LONG
@pytest.mark.timeout(400)  # six systems are started, one after the other
@pytest.mark.usefixtures("postgres")  # to be skipped, or to fail, where it is not installed
async def test_a_quick_round_measures_postgresql_beside_sqlite(tmp_path: Path) -> None:
    options = ("--quick", "--rounds", "1", "--only", "drain", "--database", "both", "--peers", "none")
    status, output = await run_benchmarks(*options, "--output", str(tmp_path))

    assert status == 0, output
    results = json.loads((tmp_path / "results.json").read_text())
    for database in ("sqlite", "postgresql"):
        assert values_of(results, "drain", "order_rail", "rate", database)[0] > 0
    assert values_of(results, "drain", "order_rail", "processor time of PostgreSQL", "postgresql")
    goals = {verdict["goal"]: verdict["command"] for verdict in results["goals"]}
    assert goals["drain on PostgreSQL, beside SQLite"] == "python -m benchmarks --only drain --database both"
    picture = (tmp_path / "results.svg").read_text()  # it fetches nothing
    assert "Order Rail" in picture
    assert "<script" not in picture
    assert "href" not in picture.replace("xmlns:xlink", "")


@LONG
@pytest.mark.parametrize(
    ("only", "quantities"),
    [
        ("watching", [
            "accept, not watched", "accept, watched",
            "memory with 50 streams, later", "longest time between two updates",
        ]),
        ("growth", ["accept, 2,000 orders", "drain, 2,000 orders", "drain, backlog 500"]),
        ("audit", ["to judge 2,000 orders", "memory for it"]),
        ("prune", [
            "accept, p99, without pruning", "accept, p99, while old orders are pruned", "pruned by the order service",
        ]),
    ],
)  # fmt: skip
async def test_a_quick_round_measures(only: str, quantities: list[str], tmp_path: Path) -> None:
    options = ("--quick", "--rounds", "1", "--only", only, "--peers", "none", "--output", str(tmp_path))
    status, output = await run_benchmarks(*options)

    assert status == 0, output
    results = json.loads((tmp_path / "results.json").read_text())
    for quantity in quantities:
        assert values_of(results, only, "order_rail", quantity)[0] > 0


@LONG
async def test_two_versions_are_measured_in_turns() -> None:
    status, output = await run_benchmarks(".", "--turns", "2", "--orders", "100", module="benchmarks.versions")

    assert status == 0, output
    for quantity in QUANTITIES:
        *_, ratio = output.partition(f"| {quantity} |")[2].partition("| ratio | ")
        assert float(ratio.partition(" ")[0]) > 0, output


async def test_an_unknown_measurement_is_refused_by_name(tmp_path: Path) -> None:
    status, output = await run_benchmarks("--only", "speed", "--output", str(tmp_path))

    assert status == 2
    assert "speed" in output
    assert "accept" in output
    assert not any(tmp_path.iterdir())

"""`order-rail lab`: each wrong way does its damage, the right one none, and every figure follows from the records.

LAB=1 runs it ten times at full size, to see that the damage is no luck.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from control_room.cli import app
from control_room.experiments.lab.report import LabReport
from control_room.experiments.lab.systems import sqs
from control_room.experiments.lab.systems.redis import missing
from control_room.experiments.lab.ways import RABBITMQ, REDIS, RIGHT, SQS, WAYS
from tests.order_rail import Ended, end_of, order_rail, processes_of, report_of, start
from tests.support import eventually, is_alive

pytestmark = pytest.mark.timeout(300)  # the first test waits for all ways
ORDERS = 84
ON_RABBITMQ = [way.name for way in WAYS.values() if way.system == RABBITMQ]
NEEDS_REDIS = pytest.mark.skipif(missing() != "" and not os.environ.get("CI"), reason=missing())
EACH_WAY = pytest.mark.parametrize("way", ON_RABBITMQ)


@dataclass(frozen=True)
class Run:
    ended: Ended
    output: Path
    temporary: Path

    @cache  # noqa: B019 - one run of the module
    def lines(self, way: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / f"{way}.ndjson").read_text().splitlines()]

    def orders(self, way: str, what: str) -> list[int]:
        return [line["order"] for line in self.lines(way) if line["what"] == what]

    def outcome(self, way: str) -> dict[str, Any]:
        outcome: dict[str, Any] = report_of(self.output)["ways"][way]
        return outcome


async def lab(directory: Path, *arguments: str) -> Run:
    temporary = directory / "temporary"
    temporary.mkdir()
    output = directory / "output"
    ended = await order_rail("lab", *arguments, "--output", str(output), TMPDIR=str(temporary))
    return Run(ended, output, temporary)


@pytest_asyncio.fixture(scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    """All ways, with few orders."""
    yield await lab(tmp_path_factory.mktemp("lab"), "--orders", str(ORDERS))


async def test_the_damage_is_seen_and_the_files_say_so(run: Run) -> None:
    assert run.ended.status == 0, run.ended.output + run.ended.errors
    assert "All of it held" in run.ended.output
    assert all(WAYS[way].lines in run.ended.output and WAYS[way].why in run.ended.output for way in ON_RABBITMQ)
    assert "order-rail" in (run.output / "report.md").read_text()
    assert (run.output / "chart.svg").read_text().startswith("<?xml")


@EACH_WAY
async def test_a_wrong_way_does_its_damage_and_the_right_one_none(way: str, run: Run) -> None:
    outcome = run.outcome(way)
    signs = {kind for kind in ("lost", "duplicated", "stuck", "unasked") if outcome[kind]}

    assert WAYS[way].damage <= signs
    assert outcome["per_second"] > 0
    assert outcome["accepted"] >= ORDERS - 5  # a producer that is killed before the commit has taken no order
    if way == "order-rail":
        assert not signs
        assert outcome["performed"] == outcome["accepted"]
        assert run.orders(way, "repeated")  # what came twice was done once


@EACH_WAY
async def test_every_figure_follows_from_the_record(way: str, run: Run) -> None:
    outcome = run.outcome(way)
    placed, performed = set(run.orders(way, "placed")), Counter(run.orders(way, "performed"))
    left, held_up = set(run.orders(way, "left")), set(run.orders(way, "held up"))

    assert set(run.orders(way, "asked")) == set(range(1, ORDERS + 1))
    assert outcome["accepted"] == len(placed)
    assert outcome["lost"] == len([order for order in placed if order not in performed and order not in left])
    assert outcome["duplicated"] == len([order for order, times in performed.items() if times > 1])
    assert outcome["unasked"] == len([order for order in performed if order not in placed])
    assert outcome["stuck"] == len([order for order in placed if order in held_up or order in left - performed.keys()])


@EACH_WAY
async def test_every_fault_is_evidenced(way: str, run: Run) -> None:
    faults = [line for line in run.lines(way) if line["what"] == "fault"]
    evidence = [fault["evidence"] for fault in faults]
    kills, broker = evidence[:4], evidence[4]

    assert [fault["fault"] for fault in faults] == [
        "producer killed", "producer killed", "consumer killed", "consumer killed", "broker killed and started",
        "courier company down", "rubbish in a queue",
    ]  # fmt: skip
    assert [kill["where"] for kill in kills] == [
        "after the commit", "before the commit", "before the effect", "after the effect",
    ]  # fmt: skip
    assert all(kill["status"] == -signal.SIGKILL for kill in kills)
    assert [kills[0]["placed"], kills[1]["placed"]] == [True, False]
    dead = {line["process"] for line in run.lines(way) if line["what"] == "ended" and line["status"] == -9}
    assert {kill["process"] for kill in kills} <= dead
    assert broker["ready"] > 0
    assert broker["server"] != broker["new_server"]
    assert evidence[5]["refused"] > 0
    assert sum(evidence[6]["outcomes"].values()) > 0


async def test_nothing_of_it_is_left(run: Run) -> None:
    assert processes_of(run.temporary) == []
    assert list(run.temporary.iterdir()) == []


@NEEDS_REDIS
async def test_on_redis_the_same_holds(tmp_path: Path) -> None:
    """Few ways, for time's sake."""
    ways = ("redis-list", "redis-without-key", RIGHT[REDIS])
    chosen = [word for way in ways for word in ("--way", way)]
    run = await lab(tmp_path, "--system", REDIS, "--orders", "60", *chosen)

    assert run.ended.status == 0, run.ended.output + run.ended.errors
    assert {way: run.outcome(way)["accepted"] > 55 for way in ways} == dict.fromkeys(ways, True)
    assert run.outcome("redis-list")["lost"] > 0
    assert run.outcome("redis-without-key")["duplicated"] > 0
    right = run.outcome(RIGHT[REDIS])
    assert not [right[kind] for kind in ("lost", "duplicated", "stuck", "unasked") if right[kind]]
    assert run.orders(RIGHT[REDIS], "repeated")
    assert processes_of(run.temporary) == []
    assert list(run.temporary.iterdir()) == []


async def test_without_redis_it_says_what_to_install(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["lab", "--system", REDIS, "--output", str(tmp_path)], env={"PATH": str(tmp_path)})

    assert ended.exit_code == 2
    assert "neither redis-server nor valkey-server is installed" in ended.output or "'.[lab]'" in ended.output


@pytest.mark.skipif(sqs.missing() != "", reason=sqs.missing())
def test_each_promise_of_sqs_is_tried_on_its_emulation() -> None:
    ended = CliRunner().invoke(app, ["lab", "--system", SQS], env={"COLUMNS": "200"})

    assert ended.exit_code == 0, ended.output
    assert sqs.LABEL in ended.output
    assert all(promise.title in ended.output for promise in sqs.PROMISES)


@pytest.mark.skipif(sqs.missing() == "", reason="the emulation is installed")
def test_without_the_emulation_of_sqs_it_says_what_to_install() -> None:
    ended = CliRunner().invoke(app, ["lab", "--system", SQS], env={"COLUMNS": "200"})

    assert ended.exit_code == 2
    assert "'.[sqs]'" in ended.output


@pytest.mark.parametrize(
    ("number", "status", "way"),
    [
        (signal.SIGINT, 130, "without-key"),
        pytest.param(signal.SIGKILL, -9, "redis-list", marks=NEEDS_REDIS),
    ],
)
async def test_nothing_is_left_of_a_lab_that_is_interrupted_or_killed(
    number: signal.Signals, status: int, way: str, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    options = ("--system", WAYS[way].system, "--way", way, "--output", str(tmp_path / "output"))
    running = await start("lab", *options, TMPDIR=str(temporary))
    await eventually(lambda: len(processes_of(temporary)) > 2, 60, "processes")
    processes = [psutil.Process(pid) for pid in processes_of(temporary) if pid != running.pid]
    running.send_signal(number)
    ended = await end_of(running)

    assert ended.status == status, ended.output + ended.errors
    await eventually(lambda: not [each for each in processes if runs(each)], 30, "their end")
    await eventually(lambda: not list(temporary.iterdir()), 30, "an empty folder for temporary files")


def runs(process: psutil.Process) -> bool:
    """Init may let the dead wait."""
    try:
        return is_alive(process)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--way", "hope"), "there is no way 'hope'"),
        (("--orders", "3"), "--orders"),
        (("--output", "{old}"), "another run"),
    ],
)
def test_impossible_options_are_refused_before_anything_starts(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "auto-ack.ndjson").touch()
    ended = CliRunner().invoke(app, ["lab", *(each.format(old=tmp_path) for each in arguments)], env={"COLUMNS": "200"})

    assert ended.exit_code == 2
    assert sentence in ended.output


def test_a_way_whose_queue_the_broker_refuses_is_left_out_with_the_reason() -> None:
    report = LabReport(RABBITMQ, ORDERS, ["in-memory"], refused=["in-memory"])

    assert report.failures == [f"Without in-memory: {WAYS['in-memory'].refused}."]


def test_the_ways_are_listed() -> None:
    ended = CliRunner().invoke(app, ["lab", "--list"])

    assert ended.exit_code == 0
    assert [line.split()[0] for line in ended.output.splitlines()] == list(WAYS)


@pytest.mark.skipif(not os.environ.get("LAB"), reason="LAB=1 runs the lab ten times at full size: 15 minutes")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("system", RIGHT)
async def test_the_damage_is_no_luck(system: str, tmp_path: Path) -> None:
    for number in range(1, 11):
        directory = tmp_path / str(number)
        directory.mkdir()
        run = await lab(directory, "--system", system)
        print(run.ended.output)
        assert run.ended.status == 0, run.ended.output + run.ended.errors

"""`order-rail chaos`: a minute of it holds, and it goes red when a promise is broken."""

from asyncio.subprocess import Process
from pathlib import Path

import pytest

from control_room.experiments.chaos.customers import CANCELLATIONS, JOURNAL
from shared.ids import new_id
from tests.order_rail import end_of, processes_of, report_of, start
from tests.support import eventually

FAULTS = {"kill", "broker-kill", "unbound", "duplicates", "hostile-headers"}
SEED = "4"


async def chaos(directory: Path, *arguments: str) -> Process:
    """A run that has begun. A busy machine recovers slowly: how fast is not judged strictly here."""
    run = ("--seed", SEED, "--rate", "25", "--run-directory", str(directory), "--recover-within-seconds", "40")
    return await start("chaos", *run, *arguments)


@pytest.mark.timeout(300)
async def test_a_minute_of_chaos_loses_nothing_and_every_fault_is_evidenced(tmp_path: Path) -> None:
    run = await end_of(await chaos(tmp_path, "--minutes", "1", "--faults", ",".join(FAULTS)))

    assert run.status == 0, run.output
    assert f"Seed {SEED}" in run.output
    report = report_of(tmp_path)
    assert report["held"]
    assert {each["fault"] for each in report["injections"]} == FAULTS
    assert all(each["evidence"] and not each["problem"] for each in report["injections"])
    assert report["load"]["accepted"] == report["closed"] == report["audit"]["counts"]["accepted"] > 1000
    assert report["duplicates"] > 0
    assert report["events"] > 2 * report["load"]["accepted"]
    assert report["cancellations"]["accepted"] > 100
    ends = report["audit"]["statuses"]
    assert ends["cancelled"] > 0 < ends["refunded"]
    assert ends["cancelled"] + ends["refunded"] >= report["cancellations"]["accepted"]
    money = report["audit"]["money"]["EUR"]
    assert money["charged"] - money["refunded"] == money["due"]
    assert "All of it held" in (tmp_path / "report.md").read_text()
    assert processes_of(tmp_path) == []


async def test_a_promise_that_was_not_kept_turns_it_red(tmp_path: Path) -> None:
    arguments = ("--cancel-share", "0", "--minutes", "0.1", "--faults", "oversize", "--quiet-within-seconds", "5")
    run = await chaos(tmp_path, *arguments)
    journal, lost = tmp_path / JOURNAL, new_id()
    await eventually(journal.exists, 90, "the load to begin")
    with journal.open("a") as file:
        file.write(f"{lost}\n")
    kept = await eventually(lambda: next(iter(set(journal.read_text().split()) - {lost}), ""), 90, "an order")
    with (tmp_path / CANCELLATIONS).open("a") as file:
        file.write(f"{kept}\n")

    ended = await end_of(run)

    assert ended.status == 1, ended.output
    failures = " ".join(report_of(tmp_path)["failures"])
    assert f"accepted-order-exists: {lost}" in failures
    assert f"cancellation-holds: {kept}" in failures


async def test_an_unknown_fault_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = await end_of(await chaos(tmp_path, "--faults", "flood"))

    assert run.status == 2
    assert "flood" in run.errors
    assert not list(tmp_path.iterdir())


async def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    run = await chaos(tmp_path, "--minutes", "1", "--faults", "freeze")
    await eventually((tmp_path / JOURNAL).exists, 90, "the load to begin")
    run.terminate()

    ended = await end_of(run)

    assert ended.status == 130, ended.output
    assert processes_of(tmp_path) == []

"""`order-rail chaos`: a minute of it holds, and it goes red when a promise is broken."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import psutil
import pytest

from control_room.experiments.chaos.run import JOURNAL
from shared.ids import new_id
from tests.support import eventually

ORDER_RAIL = (sys.executable, "-c", "from control_room.cli import app; app()", "chaos")
FAULTS = {"kill", "broker-kill", "unbound", "duplicates", "hostile-headers"}
SEED = "4"


async def chaos(directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    """A run that has begun."""
    command = (*ORDER_RAIL, "--seed", SEED, "--rate", "25", "--run-directory", str(directory), *arguments)
    # Others may be busy on this machine too: how fast it recovers is not judged as strictly as that it does.
    return await asyncio.create_subprocess_exec(*command, "--recover-within-seconds", "40", stdout=PIPE, stderr=STDOUT)


async def ended(run: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Exit status and output."""
    output, _ = await run.communicate()
    return run.returncode, output.decode()


def report_of(directory: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((directory / "report.json").read_text())
    return read


def processes_of(directory: Path) -> list[int]:
    """Those that have the directory in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if any(str(directory) in word for word in words):
            found.append(process.pid)
    return found


@pytest.mark.timeout(300)
async def test_a_minute_of_chaos_loses_nothing_and_every_fault_is_evidenced(tmp_path: Path) -> None:
    status, output = await ended(await chaos(tmp_path, "--minutes", "1", "--faults", ",".join(FAULTS)))

    assert status == 0, output
    assert f"Seed {SEED}" in output
    report = report_of(tmp_path)
    assert report["held"]
    assert {fall["fault"] for fall in report["falls"]} == FAULTS
    assert all(fall["evidence"] and not fall["problem"] for fall in report["falls"])
    assert report["load"]["accepted"] == report["settled"] == report["audit"]["counts"]["accepted"] > 1000
    assert report["duplicates"] > 0
    assert "All of it held" in (tmp_path / "report.md").read_text()
    assert processes_of(tmp_path) == []


async def test_a_promise_that_was_not_kept_turns_it_red(tmp_path: Path) -> None:
    arguments = ("--minutes", "0.1", "--faults", "oversize", "--quiet-within-seconds", "5")
    run = await chaos(tmp_path, *arguments)
    journal, lost = tmp_path / JOURNAL, new_id()
    await eventually(journal.exists, 90, "the load to begin")
    with journal.open("a") as file:
        file.write(f"{lost}\tno-such-key\n")

    status, output = await ended(run)

    assert status == 1, output
    assert f"accepted-order-exists: {lost}" in " ".join(report_of(tmp_path)["failures"])


async def test_an_unknown_fault_is_refused_before_anything_starts(tmp_path: Path) -> None:
    status, output = await ended(await chaos(tmp_path, "--faults", "flood"))

    assert status == 2
    assert "flood" in output
    assert not list(tmp_path.iterdir())


async def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    run = await chaos(tmp_path, "--minutes", "1", "--faults", "freeze")
    await eventually((tmp_path / JOURNAL).exists, 90, "the load to begin")
    run.terminate()

    status, output = await ended(run)

    assert status == 130, output
    assert processes_of(tmp_path) == []

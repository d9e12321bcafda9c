"""Every command of the documentation runs as it is written, in a fresh clone, on one system for all pages."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from control_room.launcher.ports import unused_ports
from tests.conftest import QUICK_RETRIES
from tests.documentation import PAGES, ROOT, blocks, run
from tests.support import eventually

UP = "make up\n"
"""What a reader starts in another terminal. Here it does not set up `.venv`, which is shared."""


@pytest_asyncio.fixture(scope="module")
async def clone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A clone of what is here, set up, in which `make up` runs: with short delays, and on ports of its own."""
    folder = tmp_path_factory.mktemp("clone")
    copy_files(folder)
    up, environment = start_up(folder), folder / ".run/environment"
    try:
        await eventually(lambda: environment.exists() or up.poll() is not None, 90, "make up to start or to end")
        assert environment.exists(), (folder / "up.log").read_text()
        yield folder
        os.killpg(up.pid, signal.SIGINT)  # as Ctrl-C does: `make` too
        await eventually(lambda: "Stopped." in (folder / "up.log").read_text(), 40, "make up to stop")
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)


def copy_files(folder: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(command, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)


def start_up(folder: Path) -> subprocess.Popen[bytes]:
    ports = {name: str(port) for name, port in unused_ports().items()}
    with (folder / "up.log").open("w") as log:
        return subprocess.Popen(
            ["make", "--old-file=.venv/.runtime", *UP.split()[1:]], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "RABBITMQ_URL": "", **QUICK_RETRIES, **ports}, start_new_session=True,
        )  # fmt: skip


def test_what_is_said_to_run_in_another_terminal_does() -> None:
    assert {block.commands for page in PAGES for block in blocks(page) if block.exempt == "another terminal"} == {UP}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.is_run for block in blocks(page))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
async def test_the_commands_of_a_page_run_as_written(clone: Path, page: Path) -> None:
    assert not await run(page, clone)

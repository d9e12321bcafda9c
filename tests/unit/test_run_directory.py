"""What the launcher writes for others to read."""

import os
from pathlib import Path

import pytest

from control_room.launcher.run_directory import AlreadyRunningError, RunDirectory


def test_a_directory_is_held_by_one_at_a_time_and_free_afterwards(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.locked(), pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"), run.locked():
        pass
    with run.locked():
        pass

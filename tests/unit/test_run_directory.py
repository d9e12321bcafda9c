"""What the launcher writes for others to read."""

import os
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from control_room.run_directory import AlreadyRunningError, RunDirectory


def test_the_environment_file_is_private_and_read_alike_by_dotenv_and_a_shell(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    variables = {"RABBITMQ_URL": "amqp://u:p&ss#1@127.0.0.1:5672/%2F", "OPERATOR_TOKEN": "a b$c"}
    run.write_environment(variables)
    run.write_environment(variables)
    assert run.environment_file.stat().st_mode & 0o777 == 0o600
    assert dotenv_values(run.environment_file) == variables
    shell = f'. "{run.environment_file}"; printf "%s" "$RABBITMQ_URL $OPERATOR_TOKEN"'
    printed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert printed == " ".join(variables.values())


def test_a_directory_is_held_by_one_at_a_time_and_free_afterwards(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.locked(), pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"), run.locked():
        pass
    with run.locked():
        pass

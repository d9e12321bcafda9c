"""Free ports: nothing listens on them, and processes that ask at the same time get different ones."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from control_room.launcher import ports
from control_room.launcher.ports import FIRST_PORT, LAST_PORT, free_ports, is_free

ASK = "from control_room.launcher.ports import free_ports; print(*(port for _ in range(20) for port in free_ports(3)))"


def test_processes_that_ask_at_the_same_time_get_different_ports() -> None:
    asking = [subprocess.Popen([sys.executable, "-c", ASK], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    given = [port for process in asking for port in process.communicate()[0].split()]

    assert len(given) == 4 * 20 * 3
    assert len(set(given)) == len(given)


def test_a_taken_port_is_passed_over() -> None:
    (before,) = free_ports(1)
    taken = next(port for port in range(before + 1, LAST_PORT) if is_free(port))
    with socket.create_server(("127.0.0.1", taken)):
        assert not is_free(taken)
        assert taken not in free_ports(20)


@pytest.mark.parametrize("last_given", [str(LAST_PORT - 1), "?", ""])
def test_after_the_last_port_or_without_a_note_of_it_comes_the_first(
    last_given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "LAST_GIVEN", tmp_path / "last-port")
    ports.LAST_GIVEN.write_text(last_given)

    assert FIRST_PORT <= free_ports(1)[0] < FIRST_PORT + 1000

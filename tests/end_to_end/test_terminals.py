"""What commands print while they run survives a narrow terminal without Unicode."""

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pika import BasicProperties

from control_room.launcher.system import System
from tests import examples
from tests.conftest import Broker
from tests.order_rail import COMMAND, file_of, launched
from tests.service.wire import Wire
from tests.support import eventually

COLUMNS = 24


@pytest_asyncio.fixture(scope="module")
async def system(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with launched(broker, tmp_path_factory.mktemp("system") / "run") as system:
        yield system


@pytest.fixture(scope="module")
def blemished(system: System) -> System:
    """The system, with a dead letter that has an umlaut in it, and with a charge without an order."""
    wire = Wire(system.broker_settings)
    garbage = '{"customer_email": "jürgen@example.com … ▆"'.encode()
    wire.publish("orders", "order.placed.v1", garbage, BasicProperties(delivery_mode=2))
    wire.send(examples.order_placed())
    return system


async def on_a_terminal(*arguments: str, encoding: str) -> tuple[int | None, str]:
    """Exit status and all that was shown on a terminal of 24 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, COLUMNS, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, env={**inherited, "PYTHONIOENCODING": encoding, "TERM": "xterm"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = await asyncio.to_thread(_all_of, ours)
    return await process.wait(), shown.decode(encoding)


def _all_of(terminal: int) -> bytes:
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:  # what Linux says at the end of a terminal
        pass
    os.close(terminal)
    return shown


async def test_a_sale_is_shown_on_any_terminal(system: System, tmp_path: Path) -> None:
    """Before the system is blemished: a sale waits a minute for its audit to be clean."""
    sale = ("flash-sale", "--orders", "20", "--seconds", "2", "--run-directory", str(tmp_path))
    status, shown = await on_a_terminal(*sale, *file_of(system), encoding="latin-1")
    assert status == 0, shown
    assert "UnicodeEncodeError" not in shown


@pytest.mark.parametrize(
    ("command", "encoding"),
    [("tour", "ascii"), ("audit", "ascii"), ("topology show", "latin-1"), ("dead-letters list", "ascii")],
)
async def test_a_command_ends_as_it_should_on_any_terminal(command: str, encoding: str, blemished: System) -> None:
    arguments = (*command.split(), *([] if command == "topology show" else file_of(blemished)))
    status, shown = await on_a_terminal(*arguments, encoding=encoding)
    assert "Traceback" not in shown
    assert "UnicodeEncodeError" not in shown
    assert status in (0, 1), shown  # 1: there is a dead letter, and no topology where none is named
    assert shown.strip()


async def test_a_dead_letter_is_shown_on_any_terminal(blemished: System) -> None:
    async def parked() -> str:
        listing = ("dead-letters", "list", "--json", "--queue", "payment_service.charge", *file_of(blemished))
        _, shown = await on_a_terminal(*listing, encoding="utf-8")
        return shown.partition('"id": "')[2].partition('"')[0]

    letter = await eventually(parked, 20, "the dead letter to be parked")
    status, shown = await on_a_terminal("dead-letters", "show", letter, *file_of(blemished), encoding="ascii")
    assert status == 0, shown
    assert r"j\xfcrgen@example.com ~ *" in shown

"""Our HTTP server as a process of its own, with limits that a test can wait for."""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from control_room.launcher.children import end, spawn
from control_room.launcher.ports import free_ports
from tests.raw_http import GET, ask
from tests.support import eventually

SHORT = {"request_seconds": 1.0, "linger_seconds": 0.3, "unread_seconds": 0.5, "idle_seconds": 1}


@asynccontextmanager
async def limited(directory: Path, **limits: Any) -> AsyncIterator[tuple[int, Path]]:
    """Our server with other limits: its port and its log."""
    (port,) = free_ports(1)
    log = directory / f"limited-{port}.log"
    command = [sys.executable, "-m", "tests.limited_server", str(port), json.dumps(limits)]
    process = await spawn(command, os.environ, log)
    try:
        await eventually(lambda: answers(port), 30, f"the server; its log: {log}")
        yield port, log
    finally:
        await end(process, 5)


async def answers(port: int) -> bool:
    try:
        return (await ask(port, GET + b"Connection: close\r\n\r\n")).status == 200
    except OSError:
        return False

"""The control room's own HTTP, as an open port offers it. There is no system to show, and no test here needs one."""

import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from control_room.launcher.children import end, spawn
from control_room.launcher.ports import free_ports
from shared.contract import services
from tests.raw_http import ask, connected, send_and_leave
from tests.support import eventually

HOST = b"Host: evil.example\r\n"
PAGE = b"GET / HTTP/1.1\r\n" + HOST
NOWHERE = "http://127.0.0.1:1"
POLLING = b"POST /_nicegui_ws/socket.io/?EIO=4&transport=polling HTTP/1.1\r\n" + HOST
UPGRADE = (
    b"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Room:
    port: int
    pid: int
    log: Path

    async def is_open(self) -> bool:
        try:
            return (await ask(self.port, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
        except OSError:
            return False


@pytest_asyncio.fixture(scope="module")
async def room(directory: Path) -> AsyncIterator[Room]:
    (port,) = free_ports(1)
    system = {service.variable("URL"): NOWHERE for service in services()}
    broker = {"RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/", "RABBITMQ_MANAGEMENT_URL": NOWHERE}
    variables = {
        **os.environ,
        **system,
        **broker,
        "HTTP_PORT": str(port),
        "OPERATOR_TOKEN": "t",
        "EVENTS_KEPT_HOURS": "1",
    }
    log = directory / "control_room.log"
    process = await spawn([str(Path(sys.executable).with_name("order-rail")), "control-room"], variables, log)
    try:
        room = Room(port, process.pid, log)
        await eventually(room.is_open, 60, f"the control room; its log: {log}")
        yield room
    finally:
        await end(process, 10)


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/favicon.ico", "/nowhere", "/?token=t"])
async def test_head_is_answered_like_get(room: Room, path: str) -> None:
    got, head = [
        await ask(room.port, f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode(), method)
        for method in ("GET", "HEAD")
    ]

    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-type" if got.status != 303 else "location"]


@pytest.mark.parametrize("path", ["/livez/", "//evil.example", "/_nicegui_ws", "/_nicegui", "/nowhere/"])
async def test_nothing_leads_where_the_clients_host_header_says(room: Room, path: str) -> None:
    answer = await ask(room.port, f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")

    assert answer.status == 404
    assert "location" not in answer.headers


async def test_an_unknown_address_has_a_way_home(room: Room) -> None:
    answer = await ask(room.port, b"GET /<nowhere> HTTP/1.1\r\n" + HOST + b"\r\n")

    assert answer.status == 404
    assert b'<a href="/">To the control room</a>' in answer.body
    assert b"&lt;nowhere&gt;" in answer.body


async def test_analytics_without_a_broker_have_no_figures_and_say_why(room: Room) -> None:
    async def answered() -> dict[str, Any]:
        answer = await ask(room.port, b"GET /analytics?minutes=5 HTTP/1.1\r\n" + HOST + b"\r\n")
        assert answer.status == 200, answer.body
        return json.loads(answer.body)  # type: ignore[no-any-return]

    async def troubled() -> dict[str, Any]:
        found = await answered()
        assert found["trouble"], found
        return found

    found = await eventually(troubled, 20, "the trouble to be known")
    assert "the stream of events can't be read" in found["trouble"]
    assert (found["totals"], found["minutes"], found["dishes"], found["events"]) == ({}, [], [], 0)


REFUSED = {
    "no minutes": (b"GET /analytics?minutes=0 HTTP/1.1\r\n" + HOST + b"\r\n", 422, "minutes: Input should be greater"),
    "a long upgrade": (UPGRADE[:-2] + b"A: b\r\n" * 200 + b"\r\n", 431, "over 100 headers"),
    "a long body": (POLLING + b"Content-Length: 30000000\r\n\r\n" + b"a" * 3_000_000, 413, "over 1048576 bytes"),
    "another method": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 405, "POST /"),
}
"""What NiceGUI would answer in a way of its own. test_http_limits.py has the limits of every server."""


@pytest.mark.parametrize(("request_", "status", "detail"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_request_gets_a_problem(room: Room, request_: bytes, status: int, detail: str) -> None:
    answer = await ask(room.port, request_)

    assert (answer.status, answer.headers.get("allow")) == (status, "GET, HEAD" if status == 405 else None)
    assert detail in answer.detail()


async def test_a_websocket_is_still_one(room: Room) -> None:
    async with connected(room.port) as line:
        await line.send(UPGRADE)
        answer = await line.answer("HEAD")
        assert (answer.status, answer.headers["upgrade"]) == (101, "websocket")


HANG_UPS = {
    "before the page": PAGE + b"\r\n",
    "before a body": POLLING + b"Content-Length: 3000\r\n\r\n",
    "in a body": POLLING + b"Content-Length: 3000\r\n\r\nab",
    "after an upgrade": UPGRADE,
}


@pytest.mark.parametrize("sent", HANG_UPS.values(), ids=HANG_UPS.keys())
@pytest.mark.parametrize("way", ["hang_up", "reset"])
async def test_a_client_that_hangs_up_is_no_error_of_ours(room: Room, sent: bytes, way: str) -> None:
    before = len(room.log.read_text())
    await send_and_leave(room.port, room.pid, sent, way)

    assert await room.is_open()
    lines = [line for line in room.log.read_text()[before:].splitlines() if "unavailable" not in line]
    assert not [line for line in lines if "Traceback" in line or "[error" in line], lines
